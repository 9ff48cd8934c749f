"""Identification (1:N) in one gallery or several, verification (1:1) and comparison of two images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.names import PROBE
from service.api.recognition_answers import ComparisonShape, Metadata, RecognitionShape, VerificationShape
from service.api.shapes import (
    IMAGE_PROBLEMS,
    Candidates,
    EncoderName,
    Include,
    MeanOf,
    MetadataFilter,
    PersonId,
    Threshold,
)
from service.errors import EmbeddingSpaceMismatch, InvalidRequest, NoFaceFound, NotLive, ServiceError
from service.gallery.galleries import find_gallery
from service.gallery.people import metadata_of_people
from service.http.bodies import MAXIMUM_JSON_BYTES, Vector
from service.http.callers import GalleryName, GalleryNames, charging_searches, check_scope, current_caller
from service.http.openapi import body_of_images, body_of_json, problems
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession
from service.http.state import CurrentServerState, ServerState, request_encoders
from service.http.uploads import receive_and_charge_images, receive_image_or_probes
from service.identity.disclosure import (
    check_disclosed_threshold,
    disclosed_identification,
    disclosed_verification,
    rounded,
)
from service.identity.recognize import Identification, recognize_embeddings, recognize_picture
from service.identity.review import Review
from service.identity.verify import compare_pictures, verify_embedding, verify_picture

router = keyed_router("/v1", "recognition")

_PROBLEMS: tuple[type[ServiceError], ...] = (EmbeddingSpaceMismatch, *IMAGE_PROBLEMS)
NOTHING: list[Literal["metadata"]] = []
"""The default of `include`."""
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_IMAGE = body_of_images("One image.")
_PROBES = body_of_json(
    {
        "type": "object",
        "description": "Exactly one of the two fields.",
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "embedding": _NUMBERS,
            "embeddings": {"type": "array", "items": _NUMBERS, "minItems": 1, "maxItems": 1000},
        },
        "examples": [{"embedding": [0.12, -0.03, 0.4]}],
    }
)
_PROBE = body_of_json(
    {
        "type": "object",
        "required": ["embedding"],
        "additionalProperties": False,
        "properties": {"embedding": _NUMBERS},
        "examples": [{"embedding": [0.12, -0.03, 0.4]}],
    }
)


@dataclass(frozen=True)
class SearchOptions:
    """The query parameters of a recognition, by the names that the identity room gives them."""

    limit: int
    threshold: float | None
    metadata: dict[str, Any] | None
    mean_of: int


async def read_search_options(
    candidates: Candidates = 5, threshold: Threshold = None, metadata: MetadataFilter = None, mean_of: MeanOf = 1
) -> SearchOptions:
    """The options of a recognition in one gallery or in several."""
    return SearchOptions(candidates, threshold, metadata, mean_of)


Options = Annotated[SearchOptions, Depends(read_search_options)]


@router.post(
    "/galleries/{gallery}/recognize/embeddings",
    name="recognize_embeddings",
    description="Identification (1:N) of embeddings made elsewhere. The key also needs the scope `probe`. The route "
    "that takes images takes this body, too.",
    responses=problems(*_PROBLEMS),
    openapi_extra=_PROBES,
)
@router.post("/galleries/{gallery}/recognize", responses=problems(*_PROBLEMS), openapi_extra=_IMAGE)
@needs("recognize", runs_model=True)
async def recognize(
    *,
    request: Request,
    gallery: GalleryName,
    session: RequestSession,
    state: CurrentServerState,
    options: Options,
    include: Include = NOTHING,
) -> RecognitionShape:
    """Identification (1:N): find the people of a gallery in an image, or for embeddings."""
    return await _recognize(request, session, state, gallery, options=options, include=include)


@router.post(
    "/recognize/embeddings",
    name="recognize_embeddings_in_galleries",
    description="Identification (1:N) of embeddings over several galleries of one embedding space. The key also needs "
    "the scope `probe`. The route that takes images takes this body, too.",
    responses=problems(*_PROBLEMS),
    openapi_extra=_PROBES,
)
@router.post("/recognize", responses=problems(*_PROBLEMS), openapi_extra=_IMAGE)
@needs("recognize", runs_model=True)
async def recognize_galleries(
    *,
    request: Request,
    galleries: GalleryNames,
    session: RequestSession,
    state: CurrentServerState,
    options: Options,
    include: Include = NOTHING,
) -> RecognitionShape:
    """Identification (1:N) over several galleries of one embedding space; each candidate names its gallery.

    The default threshold is the highest threshold of these galleries.
    """
    return await _recognize(request, session, state, galleries, options=options, include=include)


async def _recognize(
    request: Request,
    session: AsyncSession,
    state: ServerState,
    galleries: str | Sequence[str],
    *,
    options: SearchOptions,
    include: Sequence[str],
) -> RecognitionShape:
    received = await receive_image_or_probes(request, state.settings.maximum_json_bytes)
    charge, caller = charging_searches(request), current_caller(request)
    if PROBE not in caller.scopes:
        await _check_threshold(session, galleries, options.threshold)
    if isinstance(received, bytes):
        review, encoders = Review.of(state.settings), request_encoders(request)
        recognition = await recognize_picture(
            session, encoders, galleries, received, review=review, charge=charge, **vars(options)
        )
    else:
        check_scope(caller, PROBE)
        recognition = await recognize_embeddings(session, galleries, received, charge=charge, **vars(options))
    if PROBE not in caller.scopes:
        recognition = disclosed_identification(recognition)
    metadata = await _metadata(session, recognition) if include else {}
    return RecognitionShape.of(recognition, metadata)


async def _check_threshold(session: AsyncSession, galleries: str | Sequence[str], threshold: float | None) -> None:
    """Raises Forbidden for a threshold that would show more than a key without the scope `probe` may see."""
    if threshold is not None:
        names = [galleries] if isinstance(galleries, str) else galleries
        found = [await find_gallery(session, name) for name in names]
        check_disclosed_threshold(threshold, max(gallery.threshold for gallery in found))


async def _metadata(session: AsyncSession, recognition: Identification) -> Metadata:
    """The metadata of every candidate. A person who was deleted since the search has none."""
    ids = {candidate.person_id for face in recognition.faces for candidate in face.decision.candidates}
    return {person: {} for person in ids} | await metadata_of_people(session, recognition.galleries, ids)


@router.post(
    "/galleries/{gallery}/people/{person}/verify/embedding",
    name="verify_embedding",
    description="Verification (1:1) of an embedding. The key also needs the scope `probe`. The route that takes an "
    "image takes this body, too.",
    responses=problems(*_PROBLEMS, NoFaceFound, NotLive),
    openapi_extra=_PROBE,
)
@router.post(
    "/galleries/{gallery}/people/{person}/verify",
    responses=problems(*_PROBLEMS, NoFaceFound, NotLive),
    openapi_extra=body_of_images("One image; its largest face is verified."),
)
@needs("verify", runs_model=True)
async def verify(
    *,
    request: Request,
    gallery: GalleryName,
    person: PersonId,
    session: RequestSession,
    state: CurrentServerState,
    threshold: Threshold = None,
    include: Include = NOTHING,
) -> VerificationShape:
    """Verification (1:1): decide whether an image or embedding shows this person."""
    received = await receive_image_or_probes(request, MAXIMUM_JSON_BYTES)
    caller = current_caller(request)
    if PROBE not in caller.scopes:
        await _check_threshold(session, gallery, threshold)
    if isinstance(received, bytes):
        review = Review.of(state.settings)
        verification = await verify_picture(
            session, request_encoders(request), gallery, person, received, threshold=threshold, review=review
        )
    else:
        check_scope(caller, PROBE)
        verification = await verify_embedding(session, gallery, person, _only(received), threshold=threshold)
    if PROBE not in caller.scopes:
        verification = disclosed_verification(verification)
    return VerificationShape.of(verification, with_metadata=bool(include))


@router.post(
    "/compare",
    responses=problems(*_PROBLEMS, NoFaceFound, NotLive),
    openapi_extra=body_of_images("Two images; the largest face of each is compared.", least=2, most=2),
)
@needs("verify", runs_model=True)
async def compare(
    request: Request, state: CurrentServerState, encoder: EncoderName = None, threshold: Threshold = None
) -> ComparisonShape:
    """Compare the faces of two images without a gallery. Nothing is stored."""
    first, second = await receive_and_charge_images(request, least=2, most=2)
    review = Review.of(state.settings)
    comparison = await compare_pictures(
        request_encoders(request), first.data, second.data, encoder=encoder, threshold=threshold, review=review
    )
    if PROBE not in current_caller(request).scopes:
        comparison = rounded(comparison)
    return ComparisonShape.of_two(comparison)


def _only(probes: list[Vector]) -> Vector:
    if len(probes) != 1:
        raise InvalidRequest("embeddings: verification takes exactly one embedding")
    return probes[0]
