"""Votes: how many references of each person resemble a probe. One exact statement counts them, no index leaves any out.

Search compares vectors rounded to half precision. If the rounding could change a vote, the exact values decide, in
float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.binary import half_vector_type, half_vectors
from service.database.identifiers import to_text
from service.embedding import Embedding, EmbeddingSpace, check_embedding
from service.errors import InvalidRequest
from service.gallery.codes import has_codes
from service.gallery.exact_values import from_bytes
from service.gallery.galleries import Gallery
from service.gallery.writing import comparable

MAXIMUM_PROBES = 1000
_HALF_ROUNDING = 2.0**-11  # largest relative error of a number rounded to half precision
_SUMMING_ERROR = 2e-4  # pgvector adds up in float32, and the smallest halves are rounded more coarsely


@dataclass(frozen=True)
class Votes:
    """Number of references of one person that are more similar to a probe than asked.

    `first` orders people by the enrollment of their first reference. `person_id` is None outside a gallery.
    """

    name: str
    count: int
    first: int
    person_id: str | None = None


class VoteRow(NamedTuple):
    """A row of the statements below: certain votes, and the exact values of the references whose vote is doubtful."""

    ordinal: int
    person_id: int
    certain: int
    name: str
    first: int
    originals: list[bytes] | None


def _statement(similarity: str, condition: str) -> TextClause:
    """Certain votes, and the exact values of doubtful references, of all people who may have the most votes.

    `OFFSET 0` keeps the joins on their keys: right after a load the planner has no statistics.
    """
    return text(f"""
        WITH counted AS MATERIALIZED (
            SELECT near.ordinal, near.person_id, count(*) AS possible,
                count(*) FILTER (WHERE near.similarity > :certain) AS certain,
                array_agg(near.id) FILTER (WHERE near.similarity <= :certain) AS doubtful
            FROM (
                SELECT probe.ordinal, face.person_id, face.id, {similarity} AS similarity
                FROM unnest(CAST(:vectors AS halfvec[])) WITH ORDINALITY AS probe (vector, ordinal)
                JOIN face ON face.tenant_id = :tenant AND face.gallery_id = :gallery AND {condition}
            ) AS near
            WHERE near.similarity > :possible
            GROUP BY near.ordinal, near.person_id
        ), contender AS (
            SELECT *, max(certain) OVER (PARTITION BY ordinal) AS most FROM counted
        )
        SELECT contender.ordinal, contender.person_id, contender.certain, person.name, reference.first,
            doubtful.originals
        FROM contender
        CROSS JOIN LATERAL (
            SELECT name FROM person
            WHERE tenant_id = :tenant AND gallery_id = :gallery AND id = contender.person_id OFFSET 0
        ) AS person
        CROSS JOIN LATERAL (
            SELECT min(id) AS first FROM face
            WHERE tenant_id = :tenant AND gallery_id = :gallery AND person_id = contender.person_id
        ) AS reference
        CROSS JOIN LATERAL (
            SELECT array_agg(detail.original) AS originals
            FROM unnest(contender.doubtful) AS doubt (id)
            CROSS JOIN LATERAL (
                SELECT original FROM face_detail
                WHERE tenant_id = :tenant AND gallery_id = :gallery AND person_id = contender.person_id
                    AND face_id = doubt.id
                OFFSET 0
            ) AS detail
        ) AS doubtful
        WHERE contender.possible >= contender.most
        ORDER BY contender.ordinal, reference.first
    """)  # noqa: S608 - pieces of this file only


_COSINE = "-(face.embedding <#> probe.vector)"
_WITH_CODES = _statement(_COSINE, "face.code IS NOT NULL")
_INLINE_COSINE = _statement(_COSINE, "face.code IS NULL")
_INLINE_EUCLIDEAN = _statement("1 - (face.embedding <-> probe.vector)", "face.code IS NULL")


async def count_votes(
    session: AsyncSession, gallery: Gallery, probes: Sequence[Embedding], above: float
) -> list[list[Votes]]:
    """For each probe the people who may have the most references of similarity greater than `above`.

    Counts are exact, and people come in the order of their first references. Empty if no reference is similar enough.
    """
    gallery.check_identification()
    if len(probes) > MAXIMUM_PROBES:
        raise InvalidRequest(f"probes: {len(probes)}, at most {MAXIMUM_PROBES} are allowed")
    if not probes:
        return []
    matrix = np.stack([comparable(check_embedding(probe, gallery.space), gallery.space) for probe in probes])
    margin = _margin(matrix, gallery.space)
    values = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "vectors": half_vectors(matrix, await half_vector_type(session)),
        "possible": above - margin,
        "certain": above + margin,
    }
    votes: list[list[Votes]] = [[] for _ in probes]
    for row in map(VoteRow._make, await session.execute(statement_of(gallery.space), values)):
        count = row.certain + _count_doubtful(row, probes[row.ordinal - 1], gallery.space, above)
        if count > 0:
            votes[row.ordinal - 1].append(Votes(row.name, count, row.first, to_text(row.person_id)))
    return votes


def statement_of(space: EmbeddingSpace) -> TextClause:
    """The statement for galleries of that space."""
    if space.metric == "euclidean":
        return _INLINE_EUCLIDEAN
    return _WITH_CODES if has_codes(space) else _INLINE_COSINE


def _margin(matrix: npt.NDArray[np.float32], space: EmbeddingSpace) -> float:
    """Largest error of a similarity between halves, compared with the numbers that they were rounded from."""
    if space.metric == "cosine":
        return 2 * _HALF_ROUNDING + _SUMMING_ERROR
    longest = float(np.linalg.norm(matrix, axis=1).max())
    # A reference within distance 1, where votes are, is at most that much longer than the probe.
    return (2 * longest + 1) * _HALF_ROUNDING + _SUMMING_ERROR


def _count_doubtful(row: VoteRow, probe: Embedding, space: EmbeddingSpace, above: float) -> int:
    if row.originals is None:
        return 0
    references = np.stack([from_bytes(original, space.dimension) for original in row.originals])
    return int(np.count_nonzero(similarities(references, probe[np.newaxis], space)[0] > above))


def similarities(
    references: npt.NDArray[np.float64], probes: npt.NDArray[np.floating], space: EmbeddingSpace
) -> npt.NDArray[np.float64]:
    """Unclipped similarities in float64, shape (probes, references), from matrices with one embedding per row."""
    wide = probes.astype(np.float64)
    if space.metric == "cosine":
        lengths = np.linalg.norm(wide, axis=1)[:, None] * np.linalg.norm(references, axis=1)[None, :]
        return np.asarray(wide @ references.T / lengths, dtype=np.float64)
    distances = [np.linalg.norm(references - probe, axis=1) for probe in wide]
    return 1.0 - np.array(distances, dtype=np.float64).reshape(len(wide), len(references))
