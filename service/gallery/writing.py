"""Writing references: faces, their details, the templates of their people and the gallery's counters, in one
transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.binary import big_integers, bit_strings, half_vector_type, half_vectors
from service.database.identifiers import new_identifier
from service.embedding import Embedding, EmbeddingSpace, check_embedding, normalized
from service.gallery.codes import face_codes, has_codes
from service.gallery.content import check_json
from service.gallery.exact_values import to_bytes
from service.gallery.galleries import FACE_BYTES, Gallery, SizeChange, record_change
from service.gallery.templates import add_templates, renew_templates


@dataclass(frozen=True)
class PreparedFace:
    """A checked reference: the embedding that is compared, and the values stored with it."""

    embedding: Embedding
    original: bytes
    source: str | None
    detection: str | None


_INSERT_FACES = text("""
    INSERT INTO face (tenant_id, gallery_id, person_id, id, code, embedding)
    SELECT :tenant, :gallery, person_id, id, code, embedding
    FROM unnest(
        CAST(:people AS bigint[]), CAST(:ids AS bigint[]), CAST(:codes AS varbit[]), CAST(:embeddings AS halfvec[])
    ) AS given (person_id, id, code, embedding)
""")
_INSERT_DETAILS = text(f"""
    WITH stored AS (
        INSERT INTO face_detail (tenant_id, gallery_id, person_id, face_id, original, source, detection)
        SELECT :tenant, :gallery, person_id, id, original, CAST(source AS jsonb), CAST(detection AS jsonb)
        FROM unnest(
            CAST(:people AS bigint[]), CAST(:ids AS bigint[]), CAST(:originals AS bytea[]),
            CAST(:sources AS text[]), CAST(:detections AS text[])
        ) AS given (person_id, id, original, source, detection)
        RETURNING {FACE_BYTES} AS bytes
    )
    SELECT sum(bytes) FROM stored
""")  # noqa: S608 - a piece of this room only
_NO_CODES = np.empty((0, 0), dtype=np.uint8)


def comparable(embedding: Embedding, space: EmbeddingSpace) -> Embedding:
    """The compared form of an embedding: unit length if the metric is cosine, else unchanged."""
    return normalized(embedding) if space.metric == "cosine" else embedding


def prepare_face(
    values: Sequence[float] | npt.NDArray[np.floating],
    space: EmbeddingSpace,
    source: Any = None,
    detection: dict[str, Any] | None = None,
) -> PreparedFace:
    """Check a reference. Raises InvalidEmbedding or InvalidRequest, which name the fault."""
    embedding = comparable(check_embedding(values, space), space)
    return PreparedFace(embedding, to_bytes(values), _json(source, "source"), _json(detection, "detection"))


async def store_faces(
    session: AsyncSession,
    gallery: Gallery,
    people: Sequence[int],
    faces: Sequence[PreparedFace],
    new_people: frozenset[int] = frozenset(),
) -> list[int]:
    """Write one face for each of `people` (numbers, repeated per face), and return the numbers of the faces.

    The caller holds the lock on the people. Those in `new_people` have no face yet.
    """
    identifiers = [new_identifier() for _ in faces]
    matrix = np.stack([face.embedding for face in faces])
    keys = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "people": big_integers(people),
        "ids": big_integers(identifiers),
    }
    codes = face_codes(matrix) if has_codes(gallery.space) else _NO_CODES
    vectors = half_vectors(matrix, await half_vector_type(session))
    await session.execute(_INSERT_FACES, keys | {"codes": bit_strings(codes), "embeddings": vectors})
    size = (await session.execute(_INSERT_DETAILS, keys | _details(faces))).scalar_one()
    templates = await _update_templates(session, gallery, people, matrix, new_people)
    await record_change(session, gallery.id, SizeChange(faces=len(faces), templates=templates, bytes=size))
    return identifiers


def _details(faces: Sequence[PreparedFace]) -> dict[str, Any]:
    return {
        "originals": [face.original for face in faces],
        "sources": [face.source for face in faces],
        "detections": [face.detection for face in faces],
    }


async def _update_templates(
    session: AsyncSession,
    gallery: Gallery,
    people: Sequence[int],
    matrix: npt.NDArray[np.float32],
    new_people: frozenset[int],
) -> int:
    """Update the templates, and return by how many their number changed."""
    indexes: dict[int, list[int]] = {}
    for index, person in enumerate(people):
        indexes.setdefault(person, []).append(index)
    fresh = {person: matrix[rows] for person, rows in indexes.items() if person in new_people}
    made = await add_templates(session, gallery, fresh)
    return made + await renew_templates(session, gallery, [person for person in indexes if person not in fresh])


def _json(value: Any, what: str) -> str | None:
    return None if value is None else json.dumps(check_json(value, what))
