"""Nearest references of a gallery, best one a person: all SQL of search. The path is chosen here, not by the planner.

Small galleries and embedding spaces without codes: every reference is compared exactly. Else: people are ordered by
the Hamming distance of their closest reference's code, and all references of the first ones are compared exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.identifiers import to_text
from service.embedding import Embedding, check_embedding, similarity_from
from service.errors import InvalidRequest
from service.gallery.codes import face_codes, has_codes
from service.gallery.galleries import Gallery
from service.gallery.people import Person
from service.gallery.storing import comparable
from service.gallery.wire import bit_strings, half_vector_type, half_vectors

MAXIMUM_PROBES = 1000
MAXIMUM_CANDIDATES = 1000
EXACT_FACES = 1500
"""Up to so many faces the exact comparison of all is the faster way."""

_DEPTH = 100


@dataclass(frozen=True)
class Candidate:
    """A person whose best reference is near the probe; similarity 0..1 as the embedding space defines it."""

    person_id: str
    name: str
    external_id: str | None
    similarity: float
    face_id: str


def _statement(nearest: str, operator: str) -> TextClause:
    """`nearest` gives the people to compare; the rest names each one's best reference."""
    return text(f"""
        SELECT probe.ordinal, best.person_id, person.name, person.external_id, reference.id, best.measured
        FROM unnest(CAST(:vectors AS halfvec[]), CAST(:codes AS varbit[])) WITH ORDINALITY
            AS probe (vector, code, ordinal)
        CROSS JOIN LATERAL ({nearest}) AS best
        CROSS JOIN LATERAL (
            SELECT face.id FROM face
            WHERE face.tenant_id = :tenant AND face.gallery_id = :gallery AND face.person_id = best.person_id
            ORDER BY face.embedding {operator} probe.vector, face.id LIMIT 1
        ) AS reference
        JOIN person ON person.tenant_id = :tenant AND person.gallery_id = :gallery AND person.id = best.person_id
        ORDER BY probe.ordinal, best.measured, best.person_id
    """)  # noqa: S608 - pieces of this file only


_ALL = """
    SELECT person_id, min(embedding {operator} probe.vector) AS measured FROM face
    WHERE tenant_id = :tenant AND gallery_id = :gallery AND {condition}
    GROUP BY person_id ORDER BY measured LIMIT :limit
"""
_BY_CODE = """
    SELECT near.person_id, min(face.embedding <#> probe.vector) AS measured
    FROM (
        SELECT person_id, min(code <~> probe.code) AS bits FROM face
        WHERE tenant_id = :tenant AND gallery_id = :gallery AND code IS NOT NULL
        GROUP BY person_id ORDER BY bits LIMIT :depth
    ) AS near
    JOIN face ON face.tenant_id = :tenant AND face.gallery_id = :gallery AND face.person_id = near.person_id
    GROUP BY near.person_id ORDER BY measured LIMIT :limit
"""
_EXACT = _statement(_ALL.format(operator="<#>", condition="code IS NOT NULL"), "<#>")
_INLINE_COSINE = _statement(_ALL.format(operator="<#>", condition="code IS NULL"), "<#>")
_INLINE_EUCLIDEAN = _statement(_ALL.format(operator="<->", condition="code IS NULL"), "<->")
_CODES = _statement(_BY_CODE, "<#>")


async def search(
    session: AsyncSession, gallery: Gallery, probes: Sequence[Embedding], limit: int = 5
) -> list[list[Candidate]]:
    """For each probe the `limit` people nearest to it, by their best reference, most similar first."""
    gallery.check_identification()
    _check(len(probes), limit)
    if not probes:
        return []
    matrix = np.stack([comparable(check_embedding(probe, gallery.space), gallery.space) for probe in probes])
    statement = _choose(gallery)
    values = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "vectors": half_vectors(matrix, await half_vector_type(session)),
        "codes": bit_strings(face_codes(matrix)),
        "limit": limit,
    }
    if statement is _CODES:
        values["depth"] = max(_DEPTH, limit)
    found: list[list[Candidate]] = [[] for _ in probes]
    for row in await session.execute(statement, values):
        found[row.ordinal - 1].append(_candidate(gallery, row))
    return found


async def best_reference(session: AsyncSession, gallery: Gallery, person: Person, probe: Embedding) -> Candidate | None:
    """The person's reference nearest to the probe; None where there is none."""
    vector = comparable(check_embedding(probe, gallery.space), gallery.space)
    values = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "person": person.number,
        "vectors": half_vectors(vector[np.newaxis], await half_vector_type(session)),
    }
    statement = _ONE_EUCLIDEAN if gallery.space.metric == "euclidean" else _ONE_COSINE
    row = (await session.execute(statement, values)).one_or_none()
    return None if row is None else _candidate(gallery, row)


_ONE = """
    SELECT person.id AS person_id, person.name, person.external_id, face.id,
        face.embedding {operator} vector AS measured
    FROM unnest(CAST(:vectors AS halfvec[])) AS vector
    JOIN face ON face.tenant_id = :tenant AND face.gallery_id = :gallery AND face.person_id = :person
    JOIN person ON person.tenant_id = :tenant AND person.gallery_id = :gallery AND person.id = :person
    ORDER BY measured, face.id LIMIT 1
"""
_ONE_COSINE = text(_ONE.format(operator="<#>"))
_ONE_EUCLIDEAN = text(_ONE.format(operator="<->"))


def _choose(gallery: Gallery) -> TextClause:
    if gallery.space.metric == "euclidean":
        return _INLINE_EUCLIDEAN
    if not has_codes(gallery.space):
        return _INLINE_COSINE
    return _EXACT if gallery.faces <= EXACT_FACES else _CODES


def _candidate(gallery: Gallery, row: Row[Any]) -> Candidate:
    metric = gallery.space.metric
    similarity = similarity_from(metric, row.measured if metric == "euclidean" else -row.measured)
    return Candidate(to_text(row.person_id), row.name, row.external_id, similarity, to_text(row.id))


def _check(probes: int, limit: int) -> None:
    if probes > MAXIMUM_PROBES:
        raise InvalidRequest(f"probes: {probes} where {MAXIMUM_PROBES} are the most")
    if not 1 <= limit <= MAXIMUM_CANDIDATES:
        raise InvalidRequest(f"limit: 1 to {MAXIMUM_CANDIDATES}")
