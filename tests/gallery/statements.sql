-- all, cosine, with codes, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT face.person_id, min(face.embedding <#> probe.vector) AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
        AND face.code IS NOT NULL
    GROUP BY face.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- all, cosine, with codes, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT face.person_id, min(face.embedding <#> probe.vector) AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
        AND face.code IS NOT NULL
    GROUP BY face.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- all, cosine, without codes, bounded, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT face.person_id, min(face.embedding <#> probe.vector) AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
        AND face.code IS NULL
        AND face.embedding <#> probe.vector <= %(max_distance)s
    GROUP BY face.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- all, cosine, without codes, bounded, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT face.person_id, min(face.embedding <#> probe.vector) AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
        AND face.code IS NULL
        AND face.embedding <#> probe.vector <= %(max_distance)s
    GROUP BY face.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- all, cosine, without codes, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT face.person_id, min(face.embedding <#> probe.vector) AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
        AND face.code IS NULL
    GROUP BY face.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- all, cosine, without codes, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT face.person_id, min(face.embedding <#> probe.vector) AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
        AND face.code IS NULL
    GROUP BY face.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- all, euclidean, without codes, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT face.person_id, min(face.embedding <-> probe.vector) AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
        AND face.code IS NULL
    GROUP BY face.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <-> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- all, euclidean, without codes, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT face.person_id, min(face.embedding <-> probe.vector) AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
        AND face.code IS NULL
    GROUP BY face.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <-> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, cosine, with codes, filtered, many probes
-- chosen, cosine, without codes, filtered, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
            AND person.metadata @> CAST(%(metadata)s AS jsonb)
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, cosine, with codes, filtered, mean, many probes
-- chosen, cosine, without codes, filtered, mean, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
            AND person.metadata @> CAST(%(metadata)s AS jsonb)
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, cosine, with codes, filtered, mean, one probe
-- chosen, cosine, without codes, filtered, mean, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
            AND person.metadata @> CAST(%(metadata)s AS jsonb)
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, cosine, with codes, filtered, one probe
-- chosen, cosine, without codes, filtered, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
            AND person.metadata @> CAST(%(metadata)s AS jsonb)
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, cosine, with codes, mean, many probes
-- chosen, cosine, without codes, mean, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, cosine, with codes, mean, one probe
-- chosen, cosine, without codes, mean, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, euclidean, without codes, filtered, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
            AND person.metadata @> CAST(%(metadata)s AS jsonb)
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <-> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <-> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, euclidean, without codes, filtered, mean, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
            AND person.metadata @> CAST(%(metadata)s AS jsonb)
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <-> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <-> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, euclidean, without codes, filtered, mean, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
            AND person.metadata @> CAST(%(metadata)s AS jsonb)
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <-> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <-> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, euclidean, without codes, filtered, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
            AND person.metadata @> CAST(%(metadata)s AS jsonb)
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <-> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <-> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, euclidean, without codes, mean, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <-> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <-> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- chosen, euclidean, without codes, mean, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT person.id AS person_id FROM person
        WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
        OFFSET 0
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <-> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <-> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- faces, cosine, with codes, bounded, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT face.person_id, face.id FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.code IS NOT NULL
            AND face.code <~> probe.face_code <= %(max_distance)s
        ORDER BY face.code <~> probe.face_code LIMIT %(rerank_limit)s
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id AND face.id = near.id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- faces, cosine, with codes, bounded, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT face.person_id, face.id FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.code IS NOT NULL
            AND face.code <~> probe.face_code <= %(max_distance)s
        ORDER BY face.code <~> probe.face_code LIMIT %(rerank_limit)s
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id AND face.id = near.id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- faces, cosine, with codes, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT face.person_id, face.id FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.code IS NOT NULL
        ORDER BY face.code <~> probe.face_code LIMIT %(rerank_limit)s
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id AND face.id = near.id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- faces, cosine, with codes, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT face.person_id, face.id FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.code IS NOT NULL
        ORDER BY face.code <~> probe.face_code LIMIT %(rerank_limit)s
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id AND face.id = near.id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, filtered, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
                AND EXISTS (
                    SELECT FROM person
                    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                        AND person.id = template.person_id
                        AND person.metadata @> CAST(%(metadata)s AS jsonb)
                    OFFSET 0
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, filtered, mean, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
                AND EXISTS (
                    SELECT FROM person
                    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                        AND person.id = template.person_id
                        AND person.metadata @> CAST(%(metadata)s AS jsonb)
                    OFFSET 0
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, filtered, mean, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
                AND EXISTS (
                    SELECT FROM person
                    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                        AND person.id = template.person_id
                        AND person.metadata @> CAST(%(metadata)s AS jsonb)
                    OFFSET 0
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, filtered, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
                AND EXISTS (
                    SELECT FROM person
                    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                        AND person.id = template.person_id
                        AND person.metadata @> CAST(%(metadata)s AS jsonb)
                    OFFSET 0
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, mean, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, mean, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, prefiltered, filtered, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT people.person_id, prefiltered.id
        FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
                AND EXISTS (
                    SELECT FROM person
                    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                        AND person.id = template.person_id
                        AND person.metadata @> CAST(%(metadata)s AS jsonb)
                    OFFSET 0
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
        ) AS people
        CROSS JOIN LATERAL (
            SELECT face.id FROM face
            WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
                AND face.person_id = people.person_id
                AND face.code <~> probe.face_code <= %(face_prefilter)s
            OFFSET 0
        ) AS prefiltered
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id AND face.id = near.id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, prefiltered, filtered, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT people.person_id, prefiltered.id
        FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
                AND EXISTS (
                    SELECT FROM person
                    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                        AND person.id = template.person_id
                        AND person.metadata @> CAST(%(metadata)s AS jsonb)
                    OFFSET 0
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
        ) AS people
        CROSS JOIN LATERAL (
            SELECT face.id FROM face
            WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
                AND face.person_id = people.person_id
                AND face.code <~> probe.face_code <= %(face_prefilter)s
            OFFSET 0
        ) AS prefiltered
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id AND face.id = near.id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, prefiltered, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT people.person_id, prefiltered.id
        FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
        ) AS people
        CROSS JOIN LATERAL (
            SELECT face.id FROM face
            WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
                AND face.person_id = people.person_id
                AND face.code <~> probe.face_code <= %(face_prefilter)s
            OFFSET 0
        ) AS prefiltered
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id AND face.id = near.id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, prefiltered, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT people.person_id, prefiltered.id
        FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= %(max_distance)s
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
        ) AS people
        CROSS JOIN LATERAL (
            SELECT face.id FROM face
            WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
                AND face.person_id = people.person_id
                AND face.code <~> probe.face_code <= %(face_prefilter)s
            OFFSET 0
        ) AS prefiltered
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id AND face.id = near.id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, single reference, filtered, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= (
                    SELECT CASE WHEN sum(size.templates) = sum(size.faces)
                        THEN CAST(%(max_distance_single_reference)s AS double precision)
                        ELSE %(max_distance)s END
                    FROM gallery_size AS size
                    WHERE size.tenant_id = %(tenant)s AND size.gallery_id = %(gallery)s
                )
                AND EXISTS (
                    SELECT FROM person
                    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                        AND person.id = template.person_id
                        AND person.metadata @> CAST(%(metadata)s AS jsonb)
                    OFFSET 0
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, single reference, filtered, mean, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= (
                    SELECT CASE WHEN sum(size.templates) = sum(size.faces)
                        THEN CAST(%(max_distance_single_reference)s AS double precision)
                        ELSE %(max_distance)s END
                    FROM gallery_size AS size
                    WHERE size.tenant_id = %(tenant)s AND size.gallery_id = %(gallery)s
                )
                AND EXISTS (
                    SELECT FROM person
                    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                        AND person.id = template.person_id
                        AND person.metadata @> CAST(%(metadata)s AS jsonb)
                    OFFSET 0
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, single reference, filtered, mean, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= (
                    SELECT CASE WHEN sum(size.templates) = sum(size.faces)
                        THEN CAST(%(max_distance_single_reference)s AS double precision)
                        ELSE %(max_distance)s END
                    FROM gallery_size AS size
                    WHERE size.tenant_id = %(tenant)s AND size.gallery_id = %(gallery)s
                )
                AND EXISTS (
                    SELECT FROM person
                    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                        AND person.id = template.person_id
                        AND person.metadata @> CAST(%(metadata)s AS jsonb)
                    OFFSET 0
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, single reference, filtered, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= (
                    SELECT CASE WHEN sum(size.templates) = sum(size.faces)
                        THEN CAST(%(max_distance_single_reference)s AS double precision)
                        ELSE %(max_distance)s END
                    FROM gallery_size AS size
                    WHERE size.tenant_id = %(tenant)s AND size.gallery_id = %(gallery)s
                )
                AND EXISTS (
                    SELECT FROM person
                    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s
                        AND person.id = template.person_id
                        AND person.metadata @> CAST(%(metadata)s AS jsonb)
                    OFFSET 0
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, single reference, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= (
                    SELECT CASE WHEN sum(size.templates) = sum(size.faces)
                        THEN CAST(%(max_distance_single_reference)s AS double precision)
                        ELSE %(max_distance)s END
                    FROM gallery_size AS size
                    WHERE size.tenant_id = %(tenant)s AND size.gallery_id = %(gallery)s
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, single reference, mean, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= (
                    SELECT CASE WHEN sum(size.templates) = sum(size.faces)
                        THEN CAST(%(max_distance_single_reference)s AS double precision)
                        ELSE %(max_distance)s END
                    FROM gallery_size AS size
                    WHERE size.tenant_id = %(tenant)s AND size.gallery_id = %(gallery)s
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, single reference, mean, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= (
                    SELECT CASE WHEN sum(size.templates) = sum(size.faces)
                        THEN CAST(%(max_distance_single_reference)s AS double precision)
                        ELSE %(max_distance)s END
                    FROM gallery_size AS size
                    WHERE size.tenant_id = %(tenant)s AND size.gallery_id = %(gallery)s
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, bounded, single reference, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
                AND template.code <~> probe.code <= (
                    SELECT CASE WHEN sum(size.templates) = sum(size.faces)
                        THEN CAST(%(max_distance_single_reference)s AS double precision)
                        ELSE %(max_distance)s END
                    FROM gallery_size AS size
                    WHERE size.tenant_id = %(tenant)s AND size.gallery_id = %(gallery)s
                )
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, mean, many probes
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM unnest(
    CAST(%(vectors)s AS halfvec[]), CAST(%(codes)s AS varbit[]), CAST(%(face_codes)s AS varbit[])
) WITH ORDINALITY AS probe (vector, code, face_code, ordinal)
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, mean, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, best.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT avg(nearest.measured) AS measured
        FROM (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        ORDER BY measured LIMIT %(mean_of)s
        ) AS nearest
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- people, cosine, with codes, one probe
SELECT probe.ordinal, person.id, person.name, person.external_id, reference.id, reference.measured AS measured
FROM (
    SELECT CAST(1 AS bigint) AS ordinal, CAST(%(vectors)s AS halfvec) AS vector,
        CAST(%(codes)s AS varbit) AS code, CAST(%(face_codes)s AS varbit) AS face_code
) AS probe
CROSS JOIN LATERAL (
    SELECT near.person_id, min(compared.measured) AS measured
    FROM (
        SELECT DISTINCT nearest.person_id FROM (
            SELECT template.person_id FROM person_template AS template
            WHERE template.tenant_id = %(tenant)s AND template.gallery_id = %(gallery)s
            ORDER BY template.code <~> probe.code LIMIT %(rerank_limit)s
        ) AS nearest
    ) AS near
    CROSS JOIN LATERAL (
        SELECT face.embedding <#> probe.vector AS measured FROM face
        WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s
            AND face.person_id = near.person_id
        OFFSET 0
    ) AS compared
    GROUP BY near.person_id ORDER BY measured LIMIT %(limit)s
) AS best
CROSS JOIN LATERAL (
    SELECT face.id, face.embedding <#> probe.vector AS measured FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = best.person_id
    ORDER BY measured, face.id LIMIT 1
) AS reference
CROSS JOIN LATERAL (
    SELECT person.id, person.name, person.external_id FROM person
    WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = best.person_id
    OFFSET 0
) AS person
ORDER BY probe.ordinal, measured, person.id;

-- one person, cosine
SELECT CAST(1 AS bigint) AS ordinal, person.id, person.name, person.external_id, face.id,
    face.embedding <#> CAST(%(vectors)s AS halfvec) AS measured
FROM person CROSS JOIN LATERAL (
    SELECT face.id, face.embedding FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = person.id
    OFFSET 0
) AS face
WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = %(person)s
ORDER BY measured, face.id LIMIT 1;

-- one person, euclidean
SELECT CAST(1 AS bigint) AS ordinal, person.id, person.name, person.external_id, face.id,
    face.embedding <-> CAST(%(vectors)s AS halfvec) AS measured
FROM person CROSS JOIN LATERAL (
    SELECT face.id, face.embedding FROM face
    WHERE face.tenant_id = %(tenant)s AND face.gallery_id = %(gallery)s AND face.person_id = person.id
    OFFSET 0
) AS face
WHERE person.tenant_id = %(tenant)s AND person.gallery_id = %(gallery)s AND person.id = %(person)s
ORDER BY measured, face.id LIMIT 1;
