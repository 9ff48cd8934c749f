CREATE FUNCTION charge_v2(of_tenant integer, of_key bigint, of_class text, amount integer)
RETURNS double precision LANGUAGE plpgsql AS $$
-- Charges the rate limit of the key (key 0 has none), those of the keys from which it descends, then that of the
-- tenant, which is stored as key 0. Returns null if all admit the request, else the seconds to wait.
DECLARE
    limits record;
    ancestor record;
    wait double precision;
BEGIN
    PERFORM set_config('app.tenant', of_tenant::text, true);
    SELECT CASE of_class WHEN 'inference' THEN k.inferences_per_minute ELSE k.requests_per_minute END AS of_key,
           CASE of_class WHEN 'inference' THEN t.inferences_per_minute ELSE t.requests_per_minute END AS of_tenant,
           k.created_by
    INTO limits FROM tenant t LEFT JOIN api_key k ON k.tenant_id = t.tenant_id AND k.id = charge_v2.of_key
    WHERE t.tenant_id = charge_v2.of_tenant;
    IF limits.of_key IS NOT NULL THEN
        wait := spend_v1(of_tenant, of_key, of_class, limits.of_key, amount);
    END IF;
    -- Most keys have no creator and cost no further statement.
    IF limits.created_by IS NOT NULL THEN
        FOR ancestor IN
            WITH RECURSIVE chain AS (
                SELECT k.* FROM api_key k WHERE k.tenant_id = of_tenant AND k.id = limits.created_by
                UNION
                SELECT k.* FROM api_key k JOIN chain ON k.tenant_id = of_tenant AND k.id = chain.created_by)
            SELECT chain.id,
                   CASE of_class WHEN 'inference' THEN inferences_per_minute ELSE requests_per_minute END AS per_minute
            FROM chain
        LOOP
            IF wait IS NULL AND ancestor.per_minute IS NOT NULL THEN
                wait := spend_v1(of_tenant, ancestor.id, of_class, ancestor.per_minute, amount);
            END IF;
        END LOOP;
    END IF;
    IF wait IS NULL AND limits.of_tenant IS NOT NULL THEN
        wait := spend_v1(of_tenant, 0, of_class, limits.of_tenant, amount);
    END IF;
    RETURN wait;
END $$
