CREATE FUNCTION stored_bytes(of_tenant integer) RETURNS bigint LANGUAGE sql STABLE AS $$
-- References with their halfvec (2 bytes a number) and code (1 bit), templates, names and metadata, waiting imports.
SELECT coalesce(sum(s.bytes + s.faces * (g.dimension * 17 / 8) + s.templates * (g.dimension / 8)), 0)::bigint
     + (SELECT coalesce(sum(octet_length(content)), 0)::bigint FROM job_input WHERE tenant_id = of_tenant)
FROM gallery_size s JOIN gallery g ON g.tenant_id = s.tenant_id AND g.id = s.gallery_id
WHERE s.tenant_id = of_tenant
$$
