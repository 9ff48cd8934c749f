"""Verification (1:1): does an image show a given person, and do two images show the same person."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.session import release_connection
from service.embedding import Embedding, EmbeddingSpace, check_embedding, normalized, similarity_from
from service.encoder.contract import DetectedFace, EncodedFace
from service.encoder.encoders import Encoders
from service.errors import EmbeddingSpaceMismatch, NoFaceFound
from service.gallery.galleries import find_gallery
from service.gallery.people import Person, find_person
from service.gallery.search.search import Candidate, best_reference
from service.identity.decision import check_threshold
from service.identity.review import NO_REVIEW, Review
from service.identity.spaces import find_gallery_for_pictures, find_same_gallery, resolve_space


@dataclass(frozen=True)
class Verification:
    """The result of a comparison. `face` is the probe's, `reference` the id of the most similar face, if any.

    `similarity` is None if it may not be disclosed. `person` is the claimed person, None if two images were compared.
    Then `compared` holds the face of each image.
    """

    verified: bool
    similarity: float | None
    threshold: float
    face: DetectedFace | None
    reference: str | None
    person: Person | None = None
    compared: tuple[DetectedFace, ...] = ()


async def verify_picture(
    session: AsyncSession,
    encoders: Encoders,
    gallery_name: str,
    person_id: str,
    data: bytes,
    *,
    threshold: float | None = None,
    review: Review = NO_REVIEW,
) -> Verification:
    """Compare a picture's largest face with the person's references; NoFaceFound where it shows none.

    The session must have no uncommitted writes: its connection goes back to the pool while the model works. Raises
    NotLive or InvalidRequest if `review` objects to the face.
    """
    gallery = await find_gallery_for_pictures(session, gallery_name)
    await find_person(session, gallery, person_id)
    threshold = check_threshold(threshold, gallery.threshold)
    await release_connection(session)  # inference takes longer than any query
    probe = await _largest_face(encoders, gallery.space, data)
    if objection := review.of_probe(probe.face, gallery.space.name):
        raise objection.as_error()
    gallery = await find_same_gallery(session, gallery)
    person = await find_person(session, gallery, person_id)
    best = await best_reference(session, gallery, person, probe.embedding)
    return _verification(person, best, threshold, probe.face)


async def verify_embedding(
    session: AsyncSession,
    gallery_name: str,
    person_id: str,
    values: Sequence[float] | npt.NDArray[np.floating],
    *,
    threshold: float | None = None,
) -> Verification:
    """Compare an embedding of the gallery's own space, shape (dimension,), with the person's references."""
    gallery = await find_gallery(session, gallery_name)
    threshold = check_threshold(threshold, gallery.threshold)
    person = await find_person(session, gallery, person_id)
    best = await best_reference(session, gallery, person, check_embedding(values, gallery.space))
    return _verification(person, best, threshold, None)


async def compare_pictures(
    encoders: Encoders,
    first: bytes,
    second: bytes,
    *,
    encoder: str | None = None,
    threshold: float | None = None,
    review: Review = NO_REVIEW,
) -> Verification:
    """Compare the largest faces of two images. `face` is the second one's. Raises NoFaceFound, which names the image.

    Raises NotLive or InvalidRequest if `review` objects to a face. Liveness is required of the second image only,
    because the first may show a document.
    """
    space = resolve_space(encoders, encoder)
    if space.is_external:
        raise EmbeddingSpaceMismatch(f"{space.name} has no encoder on this server: images cannot be compared with it")
    threshold = check_threshold(threshold, space.threshold)
    one = await _largest_face(encoders, space, first, "first ")
    other = await _largest_face(encoders, space, second, "second ")
    of_any = replace(review, enforces_liveness=False)
    if objection := of_any.of_probe(one.face, space.name) or review.of_probe(other.face, space.name):
        raise objection.as_error()
    similarity = similarity_of(space, one.embedding, other.embedding)
    compared = (one.face, other.face)
    return Verification(similarity >= threshold, similarity, threshold, other.face, None, compared=compared)


def similarity_of(space: EmbeddingSpace, one: Embedding, other: Embedding) -> float:
    """Similarity from 0 to 1 of two embeddings of one space, each of shape (dimension,)."""
    if space.metric == "cosine":
        return similarity_from("cosine", float(np.dot(normalized(one), normalized(other))))
    return similarity_from("euclidean", float(np.linalg.norm(one.astype(np.float64) - other)))


def _verification(person: Person, best: Candidate | None, threshold: float, face: DetectedFace | None) -> Verification:
    """A person without a reference is never verified, whatever the threshold."""
    if best is None:
        return Verification(False, 0.0, threshold, face, None, person)
    return Verification(best.similarity >= threshold, best.similarity, threshold, face, best.face_id, person)


async def _largest_face(encoders: Encoders, space: EmbeddingSpace, data: bytes, which: str = "") -> EncodedFace:
    found = await encoders.encode(space, data, maximum_faces=1)
    if not found:
        raise NoFaceFound(f"no face was found in the {which}image")
    return found[0]
