"""Identification (1:N): who is in a picture, or behind embeddings made elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from service.embedding import Embedding, check_embedding
from service.encoder.contract import DetectedFace
from service.encoder.encoders import Encoders
from service.errors import InvalidRequest
from service.gallery.galleries import Gallery, find_gallery
from service.gallery.search import search
from service.identity.decision import Decision, check_threshold, decide
from service.identity.review import NO_REVIEW, Objection, Review
from service.identity.spaces import find_gallery_for_pictures, find_same_gallery

MAXIMUM_CANDIDATES = 100
MAXIMUM_PROBES = 1000


@dataclass(frozen=True)
class IdentifiedFace:
    """One probe's decision; `face` is None for an embedding.

    Where the review objected, `objection` says why: nobody was looked for.
    """

    face: DetectedFace | None
    decision: Decision
    objection: Objection | None = None


@dataclass(frozen=True)
class Identification:
    """Every probe's decision, in the order of the faces (largest first) or embeddings."""

    faces: list[IdentifiedFace]
    threshold: float


async def recognize_picture(
    session: AsyncSession,
    encoders: Encoders,
    gallery_name: str,
    data: bytes,
    *,
    limit: int = 5,
    threshold: float | None = None,
    review: Review = NO_REVIEW,
) -> Identification:
    """Recognize every face of an image file; none where the picture shows no face.

    What the session has not committed is given up. Forbidden where the gallery is for verification only.
    """
    gallery = await find_gallery_for_pictures(session, gallery_name)
    gallery.check_identification()  # before the model works
    threshold = check_threshold(threshold, gallery.threshold)
    _check_limit(limit)
    await session.rollback()  # the connection goes back while the model works
    encoded = await encoders.encode(gallery.space, data)
    if not encoded:
        return Identification([], threshold)
    objections = [review.of_probe(face.face) for face in encoded]
    probes = [face.embedding for face, objection in zip(encoded, objections, strict=True) if objection is None]
    decided = await _decide_all(session, gallery, probes, limit, threshold)
    if not any(decision.candidates for decision in decided):  # where somebody is found, the gallery is still there
        await find_same_gallery(session, gallery)
    decisions = iter(decided)
    faces = [
        IdentifiedFace(face.face, next(decisions) if objection is None else decide([], threshold), objection)
        for face, objection in zip(encoded, objections, strict=True)
    ]
    return Identification(faces, threshold)


async def recognize_embeddings(
    session: AsyncSession,
    gallery_name: str,
    probes: Sequence[Sequence[float] | npt.NDArray[np.floating]],
    *,
    limit: int = 5,
    threshold: float | None = None,
) -> Identification:
    """Recognize embeddings of the gallery's own space, each of shape (dimension,).

    Forbidden where the gallery is for verification only.
    """
    gallery = await find_gallery(session, gallery_name)
    gallery.check_identification()
    threshold = check_threshold(threshold, gallery.threshold)
    _check_limit(limit)
    if not 1 <= len(probes) <= MAXIMUM_PROBES:
        raise InvalidRequest(f"1 to {MAXIMUM_PROBES} embeddings")
    checked = [check_embedding(values, gallery.space) for values in probes]
    decisions = await _decide_all(session, gallery, checked, limit, threshold)
    return Identification([IdentifiedFace(None, decision) for decision in decisions], threshold)


async def _decide_all(
    session: AsyncSession, gallery: Gallery, probes: Sequence[Embedding], limit: int, threshold: float
) -> list[Decision]:
    found = await search(session, gallery, probes, limit)
    return [decide(candidates, threshold) for candidates in found]


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAXIMUM_CANDIDATES:
        raise InvalidRequest(f"limit: 1 to {MAXIMUM_CANDIDATES} candidates")
