"""Identification (1:N): who is in an image, or who belongs to embeddings made elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.session import release_connection
from service.embedding import Embedding, check_embedding
from service.encoder.contract import DetectedFace
from service.encoder.encoders import Encoders
from service.errors import InvalidRequest
from service.gallery.content import check_metadata
from service.gallery.galleries import Gallery
from service.gallery.search.search import Candidate, search, search_galleries
from service.gallery.search.turns import Charge, charge_nothing, search_units
from service.identity.decision import Decision, check_threshold, decide
from service.identity.limits import MAXIMUM_CANDIDATES, MAXIMUM_MEAN_OF, MAXIMUM_PROBES
from service.identity.review import NO_REVIEW, Objection, Review
from service.identity.spaces import find_galleries, find_same_gallery


@dataclass(frozen=True)
class IdentifiedFace:
    """The decision for one probe. `face` is None for an embedding.

    If the review refused the face, `objection` says why, and no search took place.
    """

    face: DetectedFace | None
    decision: Decision
    objection: Objection | None = None


@dataclass(frozen=True)
class Identification:
    """The decision for every probe, in the order of the faces (largest first) or embeddings."""

    faces: list[IdentifiedFace]
    threshold: float
    galleries: Sequence[Gallery] = ()
    """The galleries that were searched."""


async def recognize_picture(
    session: AsyncSession,
    encoders: Encoders,
    gallery_names: str | Sequence[str],
    data: bytes,
    *,
    limit: int = 5,
    threshold: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    mean_of: int = 1,
    review: Review = NO_REVIEW,
    charge: Charge = charge_nothing,
) -> Identification:
    """Recognize every face of an image file, largest first; no face is an empty result, not an error.

    `gallery_names`: one name, or several galleries of one embedding space; then every candidate names its gallery.
    `threshold`: None is the gallery's own, of several galleries the highest.
    `metadata`: only people whose metadata contains this object (PostgreSQL's `@>`).
    `mean_of`: a person's similarity is the mean of that many nearest references, or of all if there are fewer.
    `charge`: called before the search with its cost beyond the first unit, which the image has paid.

    The session must have no uncommitted writes: its connection goes back to the pool while the model works. Raises
    Forbidden if a gallery is for verification only.
    """
    galleries = await find_galleries(session, _names(gallery_names), for_pictures=True)
    query = _query(galleries, gallery_names, limit=limit, threshold=threshold, metadata=metadata, mean_of=mean_of)
    await release_connection(session)  # inference takes longer than any query
    encoded = await encoders.encode(galleries[0].space, data)
    if not encoded:
        return Identification([], query.threshold, galleries)
    objections = [review.of_probe(face.face, galleries[0].space.name) for face in encoded]
    probes = [face.embedding for face, objection in zip(encoded, objections, strict=True) if objection is None]
    await charge(search_units(galleries, len(probes)) - 1)
    decided = await query.decide_all(session, probes)
    if not any(decision.candidates for decision in decided):  # a match proves that the gallery still exists
        for gallery in galleries:
            await find_same_gallery(session, gallery)
    decisions = iter(decided)
    faces = [
        IdentifiedFace(face.face, next(decisions) if objection is None else decide([], query.threshold), objection)
        for face, objection in zip(encoded, objections, strict=True)
    ]
    return Identification(faces, query.threshold, galleries)


async def recognize_embeddings(
    session: AsyncSession,
    gallery_names: str | Sequence[str],
    probes: Sequence[Sequence[float] | npt.NDArray[np.floating]],
    *,
    limit: int = 5,
    threshold: float | None = None,
    metadata: Mapping[str, Any] | None = None,
    mean_of: int = 1,
    charge: Charge = charge_nothing,
) -> Identification:
    """Recognize embeddings of the galleries' own space, each of shape (dimension,), in their order.

    The options and errors are those of `recognize_picture`.
    """
    galleries = await find_galleries(session, _names(gallery_names), for_pictures=False)
    query = _query(galleries, gallery_names, limit=limit, threshold=threshold, metadata=metadata, mean_of=mean_of)
    if not 1 <= len(probes) <= MAXIMUM_PROBES:
        raise InvalidRequest(f"1 to {MAXIMUM_PROBES} embeddings are allowed")
    checked = [check_embedding(values, query.galleries[0].space) for values in probes]
    await charge(search_units(galleries, len(checked)) - 1)
    decisions = await query.decide_all(session, checked)
    return Identification([IdentifiedFace(None, decision) for decision in decisions], query.threshold, galleries)


@dataclass(frozen=True)
class _Query:
    """The checked arguments of one recognition."""

    galleries: Sequence[Gallery]
    names_galleries: bool
    limit: int
    threshold: float
    metadata: Mapping[str, Any] | None
    mean_of: int

    async def decide_all(self, session: AsyncSession, probes: Sequence[Embedding]) -> list[Decision]:
        """One decision for each probe, in their order."""
        return [decide(candidates, self.threshold) for candidates in await self._candidates(session, probes)]

    async def _candidates(self, session: AsyncSession, probes: Sequence[Embedding]) -> list[list[Candidate]]:
        if not self.names_galleries:
            gallery = self.galleries[0]
            return await search(session, gallery, probes, self.limit, metadata=self.metadata, mean_of=self.mean_of)
        merged = await search_galleries(
            session, self.galleries, probes, self.limit, metadata=self.metadata, mean_of=self.mean_of
        )
        return [[replace(candidate, gallery=gallery.name) for gallery, candidate in pairs] for pairs in merged]


def _query(
    galleries: Sequence[Gallery],
    gallery_names: str | Sequence[str],
    *,
    limit: int,
    threshold: float | None,
    metadata: Mapping[str, Any] | None,
    mean_of: int,
) -> _Query:
    """The query, checked before inference. The highest of several thresholds keeps the promise of each gallery."""
    for gallery in galleries:
        gallery.check_identification()
    threshold = check_threshold(threshold, max(gallery.threshold for gallery in galleries))
    if not 1 <= limit <= MAXIMUM_CANDIDATES:
        raise InvalidRequest(f"limit: must be from 1 to {MAXIMUM_CANDIDATES}")
    if not 1 <= mean_of <= MAXIMUM_MEAN_OF:
        raise InvalidRequest(f"mean_of: must be from 1 to {MAXIMUM_MEAN_OF}")
    if metadata is not None:
        check_metadata(dict(metadata))
    return _Query(galleries, not isinstance(gallery_names, str), limit, threshold, metadata, mean_of)


def _names(gallery_names: str | Sequence[str]) -> Sequence[str]:
    return [gallery_names] if isinstance(gallery_names, str) else gallery_names
