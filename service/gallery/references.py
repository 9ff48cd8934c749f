"""The stored references of people: as vectors in the form that is compared, and by their exact numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.binary import big_integers, read_half_vector
from service.database.identifiers import to_text
from service.embedding import Metric
from service.gallery.galleries import Gallery

_READ = text("""
    SELECT person.id AS person_id, face.id, halfvec_send(face.embedding) AS embedding
    FROM unnest(CAST(:people AS bigint[])) AS person (id) CROSS JOIN LATERAL (
        SELECT id, embedding FROM face
        WHERE tenant_id = :tenant AND gallery_id = :gallery AND person_id = person.id
        ORDER BY id DESC LIMIT :most
    ) AS face
    ORDER BY person.id, face.id
""")


_KNOWN = text("""
    SELECT person_id, original FROM face_detail
    WHERE tenant_id = :tenant AND gallery_id = :gallery
        AND person_id = ANY (CAST(:people AS bigint[])) AND original = ANY (CAST(:originals AS bytea[]))
""")


@dataclass(frozen=True)
class References:
    """References of one person, oldest first: the ids of the faces, and the vectors, shape (count, dimension)."""

    face_ids: list[str]
    vectors: npt.NDArray[np.float32]


async def read_references(
    session: AsyncSession, gallery: Gallery, people: Sequence[int], most: int
) -> dict[int, References]:
    """The newest `most` references of each person (numbers of people). People without a reference are left out."""
    values = {"tenant": gallery.tenant_id, "gallery": gallery.id, "people": big_integers(people), "most": most}
    rows: dict[int, list[tuple[str, npt.NDArray[np.float32]]]] = {}
    for row in await session.execute(_READ, values):
        rows.setdefault(row.person_id, []).append((to_text(row.id), read_half_vector(row.embedding)))
    return {
        person: References([face_id for face_id, _ in faces], np.stack([vector for _, vector in faces]))
        for person, faces in rows.items()
    }


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
    stored = {(row.person_id, bytes(row.original)) for row in await session.execute(_KNOWN, values)}
    return stored & set(originals)


def similarities(vectors: npt.NDArray[np.float32], metric: Metric) -> npt.NDArray[np.float32]:
    """The similarity of each pair of rows, from 0 to 1, shape (count, count)."""
    measured: npt.NDArray[np.float32] = vectors @ vectors.T
    if metric == "euclidean":
        squares = np.diag(measured)
        measured = 1 - np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * measured, 0))
    clipped: npt.NDArray[np.float32] = np.clip(measured, 0, 1)
    return clipped
