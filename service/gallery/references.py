"""The stored references of people: as vectors in the form that is compared, and by their exact numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.binary import big_integers, read_half_vector
from service.database.identifiers import to_text
from service.embedding import Metric
from service.gallery.galleries import Gallery


class VectorRow(NamedTuple):
    """A row of `_SELECT_VECTORS`; the embedding is in the binary format of halfvec."""

    person_id: int
    face_id: int
    embedding: bytes


# One index lookup for each person. LIMIT NULL is no limit.
_SELECT_VECTORS = text("""
    SELECT person.id, face.id, halfvec_send(face.embedding)
    FROM unnest(CAST(:people AS bigint[])) AS person (id) CROSS JOIN LATERAL (
        SELECT id, embedding FROM face
        WHERE tenant_id = :tenant AND gallery_id = :gallery AND person_id = person.id
        ORDER BY id DESC LIMIT CAST(:most AS bigint)
    ) AS face
    ORDER BY person.id, face.id
""")
_SELECT_KNOWN = text("""
    SELECT person_id, original FROM face_detail
    WHERE tenant_id = :tenant AND gallery_id = :gallery
        AND person_id = ANY (CAST(:people AS bigint[])) AND original = ANY (CAST(:originals AS bytea[]))
""")


@dataclass(frozen=True)
class PersonVectors:
    """The references of one person, oldest first: the ids of the faces, and the vectors, shape (count, dimension)."""

    face_ids: list[str]
    vectors: npt.NDArray[np.float32]


async def read_vectors(
    session: AsyncSession, gallery: Gallery, people: Sequence[int], most: int | None = None
) -> dict[int, PersonVectors]:
    """The references of each person (numbers of people), or the newest `most` of them. People without a reference are
    left out.
    """
    values = {"tenant": gallery.tenant_id, "gallery": gallery.id, "people": big_integers(people), "most": most}
    rows: dict[int, list[VectorRow]] = {}
    for row in map(VectorRow._make, await session.execute(_SELECT_VECTORS, values)):
        rows.setdefault(row.person_id, []).append(row)
    return {person: _vectors_of(person_rows) for person, person_rows in rows.items()}


def _vectors_of(rows: Sequence[VectorRow]) -> PersonVectors:
    vectors = np.stack([read_half_vector(row.embedding) for row in rows])
    return PersonVectors([to_text(row.face_id) for row in rows], vectors)


async def known_originals(
    session: AsyncSession, gallery: Gallery, originals: Sequence[tuple[int, bytes]]
) -> set[tuple[int, bytes]]:
    """Those pairs of a person's number and exact values (`to_bytes`) that are stored already."""
    if not originals:
        return set()
    values = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "people": big_integers(sorted({person for person, _ in originals})),
        "originals": [original for _, original in originals],
    }
    stored = {(row.person_id, bytes(row.original)) for row in await session.execute(_SELECT_KNOWN, values)}
    return stored & set(originals)


def similarities(vectors: npt.NDArray[np.float32], metric: Metric) -> npt.NDArray[np.float32]:
    """The similarity of each pair of rows, from 0 to 1, shape (count, count)."""
    measured: npt.NDArray[np.float32] = vectors @ vectors.T
    if metric == "euclidean":
        squares = np.diag(measured)
        measured = 1 - np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * measured, 0))
    clipped: npt.NDArray[np.float32] = np.clip(measured, 0, 1)
    return clipped
