"""Identification (1:N) in one gallery or several, verification (1:1) and comparison of two images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from service.api.shapes import (
    IMAGE_PROBLEMS,
    BoxShape,
    Candidates,
    EncoderName,
    FoundFace,
    MeanOf,
    MetadataFilter,
    Threshold,
)
from service.errors import EmbeddingSpaceMismatch, InvalidRequest, NoFaceFound, NotLive, ServiceError
from service.gallery.search.search import Candidate
from service.http.bodies import MAXIMUM_JSON_BYTES, Vector
from service.http.callers import GalleryName, GalleryNames
from service.http.openapi import body_of, problems
from service.http.probes import read_probes
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession
from service.http.state import CurrentServerState, ServerState, request_encoders
from service.http.uploads import receive_and_charge_images, receive_image, takes_pictures
from service.identity.recognize import Identification, IdentifiedFace, recognize_embeddings, recognize_picture
from service.identity.review import Review
from service.identity.verify import Verification, compare_pictures, verify_embedding, verify_picture

router = keyed_router("/v1", "recognition")

_PROBLEMS: tuple[type[ServiceError], ...] = (EmbeddingSpaceMismatch, *IMAGE_PROBLEMS)
_ADA: dict[str, Any] = {"person": {"id": "0c4qyk3d9m2w8", "name": "Ada"}, "similarity": 0.83}
_BOX: dict[str, Any] = {"left": 10.0, "top": 12.5, "right": 90.0, "bottom": 110.0}
_RECOGNITION: dict[str, Any] = {
    "faces": [
        {
            "box": _BOX,
            "detection_score": 0.98,
            "quality": 0.71,
            "decision": "match",
            "match": _ADA,
            "candidates": [_ADA | {"face": "0c4qyk3d9m2wa"}],
        }
    ],
    "threshold": 0.45,
}
_VERIFICATION: dict[str, Any] = {
    "verified": True,
    "similarity": 0.83,
    "threshold": 0.45,
    "box": _BOX,
    "face": "0c4qyk3d9m2wa",
}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_PROBES = {
    "type": "object",
    "description": "Exactly one of the two fields.",
    "oneOf": [{"required": ["embedding"]}, {"required": ["embeddings"]}],
    "additionalProperties": False,
    "properties": {
        "embedding": _NUMBERS,
        "embeddings": {"type": "array", "items": _NUMBERS, "minItems": 1, "maxItems": 1000},
    },
    "examples": [{"embedding": [0.12, -0.03, 0.4]}],
}
_PROBE = {
    "type": "object",
    "required": ["embedding"],
    "additionalProperties": False,
    "properties": {"embedding": _NUMBERS},
    "examples": [{"embedding": [0.12, -0.03, 0.4]}],
}


class PersonReference(BaseModel):
    """A person's id and name."""

    id: str
    name: str


class MatchShape(BaseModel):
    """The person that the probe matches."""

    person: PersonReference
    similarity: float
    gallery: str | None = Field(
        default=None,
        exclude_if=lambda gallery: gallery is None,
        description="The person's gallery; only in recognition over several galleries.",
    )


class CandidateShape(MatchShape):
    """A person similar to the probe."""

    face: str = Field(description="The person's reference most similar to the probe.")


class RecognizedShape(BaseModel):
    """The decision about one face. Box, score and quality are null for an embedding."""

    box: BoxShape | None
    detection_score: float | None
    quality: float | None
    decision: Literal["match", "no_match"]
    match: MatchShape | None
    candidates: list[CandidateShape] = Field(
        description="The most similar people, best first, also below the threshold."
    )
    reason: str | None = Field(
        default=None,
        exclude_if=lambda reason: reason is None,
        description="Why the operator's review excluded the face from the search; absent if it did not.",
    )

    @classmethod
    def of(cls, recognized: IdentifiedFace) -> "RecognizedShape":
        """Convert a decision to a response."""
        decision, face = recognized.decision, recognized.face
        detected = FoundFace.of(face) if face is not None else None
        return cls(
            box=detected and detected.box,
            detection_score=detected and detected.detection_score,
            quality=detected and detected.quality,
            decision=decision.outcome,
            match=None if decision.match is None else MatchShape(**_match(decision.match)),
            candidates=[
                CandidateShape(**_match(candidate), face=candidate.face_id) for candidate in decision.candidates
            ],
            reason=recognized.objection and recognized.objection.reason,
        )


class RecognitionShape(BaseModel):
    """Every face of the image, largest first, or every embedding in its order."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RECOGNITION]})

    faces: list[RecognizedShape]
    threshold: float = Field(description="Similarity from which a candidate matches.")

    @classmethod
    def of(cls, recognition: Identification) -> "RecognitionShape":
        """Convert a recognition to a response."""
        return cls(faces=[RecognizedShape.of(face) for face in recognition.faces], threshold=recognition.threshold)


class VerificationShape(BaseModel):
    """Whether two faces belong to the same person."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VERIFICATION]})

    verified: bool
    similarity: float
    threshold: float
    box: BoxShape | None = Field(description="The largest face of the image; null for an embedding.")
    face: str | None = Field(description="The person's reference most similar to the probe; null in a comparison.")

    @classmethod
    def of(cls, verification: Verification) -> "VerificationShape":
        """Convert a verification to a response."""
        return cls(
            verified=verification.verified,
            similarity=verification.similarity,
            threshold=verification.threshold,
            box=None if verification.face is None else BoxShape.of(verification.face.box),
            face=verification.reference,
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
    "/galleries/{gallery}/recognize",
    responses=problems(*_PROBLEMS),
    openapi_extra=body_of(pictures="One image.", json=_PROBES),
)
@needs("recognize", runs_model=True)
async def recognize(
    *,
    request: Request,
    gallery: GalleryName,
    session: RequestSession,
    state: CurrentServerState,
    options: Options,
) -> RecognitionShape:
    """Identification (1:N): find the people of a gallery in an image, or for embeddings."""
    return await _recognize(request, session, state, gallery, options)


@router.post(
    "/recognize",
    responses=problems(*_PROBLEMS),
    openapi_extra=body_of(pictures="One image.", json=_PROBES),
)
@needs("recognize", runs_model=True)
async def recognize_galleries(
    *,
    request: Request,
    galleries: GalleryNames,
    session: RequestSession,
    state: CurrentServerState,
    options: Options,
) -> RecognitionShape:
    """Identification (1:N) over several galleries of one embedding space; each candidate names its gallery.

    The default threshold is the highest threshold of these galleries.
    """
    return await _recognize(request, session, state, galleries, options)


async def _recognize(
    request: Request,
    session: AsyncSession,
    state: ServerState,
    galleries: str | Sequence[str],
    options: SearchOptions,
) -> RecognitionShape:
    if takes_pictures(request):
        image = await receive_image(request)
        review = Review.of(state.settings)
        recognition = await recognize_picture(
            session, request_encoders(request), galleries, image, review=review, **vars(options)
        )
    else:
        probes = await read_probes(request, state.settings.maximum_request_bytes)
        recognition = await recognize_embeddings(session, galleries, probes, **vars(options))
    return RecognitionShape.of(recognition)


@router.post(
    "/galleries/{gallery}/people/{person}/verify",
    responses=problems(*_PROBLEMS, NoFaceFound, NotLive),
    openapi_extra=body_of(pictures="One image; its largest face is verified.", json=_PROBE),
)
@needs("verify", runs_model=True)
async def verify(
    *,
    request: Request,
    gallery: GalleryName,
    person: str,
    session: RequestSession,
    state: CurrentServerState,
    threshold: Threshold = None,
) -> VerificationShape:
    """Verification (1:1): decide whether an image or embedding shows this person."""
    if takes_pictures(request):
        image = await receive_image(request)
        review = Review.of(state.settings)
        verification = await verify_picture(
            session, request_encoders(request), gallery, person, image, threshold=threshold, review=review
        )
    else:
        probe = await _one_probe(request)
        verification = await verify_embedding(session, gallery, person, probe, threshold=threshold)
    return VerificationShape.of(verification)


@router.post(
    "/compare",
    responses=problems(*_PROBLEMS, NoFaceFound, NotLive),
    openapi_extra=body_of(pictures="Two images; the largest face of each is compared.", least=2, most=2),
)
@needs("verify", runs_model=True)
async def compare(
    request: Request, state: CurrentServerState, encoder: EncoderName = None, threshold: Threshold = None
) -> VerificationShape:
    """Compare the faces of two images without a gallery. Nothing is stored."""
    first, second = await receive_and_charge_images(request, least=2, most=2)
    review = Review.of(state.settings)
    return VerificationShape.of(
        await compare_pictures(
            request_encoders(request), first.data, second.data, encoder=encoder, threshold=threshold, review=review
        )
    )


async def _one_probe(request: Request) -> Vector:
    probes = await read_probes(request, MAXIMUM_JSON_BYTES)
    if len(probes) != 1:
        raise InvalidRequest("embeddings: verification takes exactly one embedding")
    return probes[0]


def _match(candidate: Candidate) -> dict[str, Any]:
    person = PersonReference(id=candidate.person_id, name=candidate.name)
    return {"person": person, "similarity": round(candidate.similarity, 6), "gallery": candidate.gallery}
