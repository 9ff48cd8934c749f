CREATE FUNCTION admit_operator_v1(presented bytea)
RETURNS TABLE (key_id bigint, digest bytea) LANGUAGE plpgsql AS $$
-- Returns the live operator key with this digest, or no row. The policy of operator_key shows only the row whose digest
-- the transaction has set.
DECLARE
    live record;
BEGIN
    PERFORM set_config('app.operator_digest', encode(presented, 'hex'), true);
    SELECT k.* INTO live FROM operator_key k
    WHERE k.digest = presented AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp());
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF live.last_used_at IS NULL OR live.last_used_at < now() - interval '1 minute' THEN
        UPDATE operator_key k SET last_used_at = now() WHERE k.id = live.id;
    END IF;
    RETURN QUERY SELECT live.id, live.digest;
END $$
