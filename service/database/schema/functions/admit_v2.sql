CREATE FUNCTION admit_v2(of_tenant integer, presented bytea, of_class text, amount integer)
RETURNS TABLE (key_id bigint, digest bytea, scopes text[], galleries text[], requests_per_minute integer,
               inferences_per_minute integer, wait_seconds double precision) LANGUAGE plpgsql AS $$
-- Returns the live key with this digest, or no row. wait_seconds is null if the rate limit admits the request.
-- Sets the tenant for the transaction itself, so that one message to the server does everything.
DECLARE
    live record;
BEGIN
    PERFORM set_config('app.tenant', of_tenant::text, true);
    SELECT k.* INTO live FROM api_key k
    WHERE k.tenant_id = of_tenant AND k.digest = presented AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp());
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- Once a minute is enough for people, and it saves a row version per request. Losing it in a crash does no harm,
    -- so this transaction does not wait for the disk.
    IF live.last_used_at IS NULL OR live.last_used_at < now() - interval '1 minute' THEN
        PERFORM set_config('synchronous_commit', 'off', true);
        UPDATE api_key k SET last_used_at = now() WHERE k.tenant_id = of_tenant AND k.id = live.id;
    END IF;
    RETURN QUERY SELECT live.id, live.digest, live.scopes, live.galleries, live.requests_per_minute,
                        live.inferences_per_minute, charge_v2(of_tenant, live.id, of_class, amount);
END $$
