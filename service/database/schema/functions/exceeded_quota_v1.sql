CREATE FUNCTION exceeded_quota_v1(of_tenant integer, made_gallery boolean, grown integer[], ahead integer)
RETURNS text LANGUAGE plpgsql AS $$
-- Returns the name of the quota that is exceeded, or null. With ahead = 0 the transaction is about to commit; with
-- ahead = 1 the question is whether one more face would exceed a quota.
DECLARE
    quota record;
BEGIN
    SELECT maximum_galleries AS galleries, maximum_faces_per_gallery AS faces, maximum_stored_bytes AS bytes
    INTO quota FROM tenant WHERE tenant_id = of_tenant;
    IF coalesce(quota.galleries, quota.faces, quota.bytes) IS NULL THEN
        RETURN NULL;
    END IF;
    IF ahead = 0 THEN
        -- Held until the commit, so that the next transaction of this tenant counts what this one stores.
        -- The first number is QUOTA_LOCK of database/locks.py.
        PERFORM pg_advisory_xact_lock(407713202, of_tenant);
    END IF;
    IF made_gallery AND quota.galleries
        < (SELECT count(*) FROM gallery WHERE tenant_id = of_tenant AND expires_at IS NULL) THEN
        RETURN 'maximum_galleries';
    END IF;
    IF EXISTS (
        SELECT FROM gallery_size WHERE tenant_id = of_tenant AND gallery_id = ANY (grown)
        GROUP BY gallery_id HAVING sum(faces) + ahead > quota.faces OR sum(people) > quota.faces
    ) THEN
        RETURN 'maximum_faces_per_gallery';
    END IF;
    IF quota.bytes IS NOT NULL AND stored_bytes_v1(of_tenant) + ahead > quota.bytes THEN
        RETURN 'maximum_stored_bytes';
    END IF;
    RETURN NULL;
END $$
