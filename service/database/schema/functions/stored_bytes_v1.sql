CREATE FUNCTION stored_bytes_v1(of_tenant integer) RETURNS bigint LANGUAGE sql STABLE AS $$
-- Bytes that the tenant stores: references, names, metadata, templates and the files of waiting imports.
-- A face costs two bytes a number (halfvec) and, in a space that has codes, a code of 64 bytes; a template costs its
-- code of 128 bytes. The sizes are those of gallery/codes.py; a test compares them.
SELECT coalesce(sum(
           s.bytes
           + s.faces * (2 * g.dimension + CASE WHEN g.metric = 'cosine' AND g.dimension >= 256 THEN 64 ELSE 0 END)
           + s.templates * 128
       ), 0)::bigint
     + (SELECT coalesce(sum(octet_length(content)), 0)::bigint FROM job_input WHERE tenant_id = of_tenant)
FROM gallery_size s JOIN gallery g ON g.tenant_id = s.tenant_id AND g.id = s.gallery_id
WHERE s.tenant_id = of_tenant
$$
