CREATE FUNCTION spend_v1(of_tenant integer, of_key bigint, of_class text, per_minute integer, amount integer)
RETURNS double precision LANGUAGE plpgsql AS $$
-- Takes `amount` from an allowance that refills evenly within a minute (generic cell rate algorithm).
-- Returns null if the allowance covers it, else the seconds to wait.
DECLARE
    moment timestamptz := clock_timestamp();
    price interval := interval '1 minute' * (least(amount, per_minute)::double precision / per_minute);
    full_again timestamptz;
BEGIN
    INSERT INTO rate_limit AS allowance (tenant_id, key_id, cost_class, full_at)
    VALUES (of_tenant, of_key, of_class, moment + price)
    ON CONFLICT (tenant_id, key_id, cost_class) DO UPDATE
        SET full_at = greatest(allowance.full_at, moment) + price
        WHERE greatest(allowance.full_at, moment) + price <= moment + interval '1 minute'
    RETURNING full_at INTO full_again;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    SELECT full_at INTO full_again FROM rate_limit
    WHERE tenant_id = of_tenant AND key_id = of_key AND cost_class = of_class;
    RETURN extract(epoch FROM full_again + price - interval '1 minute' - moment);
END $$
