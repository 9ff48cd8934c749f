"""Who is this (1:N), and is it that person (1:1)."""

from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from service.api.shapes import BoxShape, Candidates, EncoderName, FoundFace, Threshold
from service.errors import (
    DatabaseUnavailable,
    EmbeddingSpaceMismatch,
    EncoderUnavailable,
    InvalidRequest,
    NoFaceFound,
    Overloaded,
    PayloadTooLarge,
    UnreadableImage,
    UnsupportedImageFormat,
    UnsupportedMediaType,
)
from service.gallery.search import Candidate
from service.http.bodies import MAXIMUM_JSON_BYTES, Vector
from service.http.callers import GalleryName
from service.http.openapi import body_of, problems
from service.http.probes import read_probes
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession
from service.http.state import CurrentServerState
from service.http.uploads import receive_image, receive_images, takes_pictures
from service.identity.recognize import Identification, IdentifiedFace, recognize_embeddings, recognize_picture
from service.identity.review import Review
from service.identity.verify import Verification, compare_pictures, verify_embedding, verify_picture

router = keyed_router("/v1", "recognition")

_PICTURE_PROBLEMS = problems(
    EmbeddingSpaceMismatch,
    PayloadTooLarge,
    UnsupportedMediaType,
    UnsupportedImageFormat,
    UnreadableImage,
    EncoderUnavailable,
    Overloaded,
    DatabaseUnavailable,
)
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
    "threshold": 0.4,
}
_NUMBERS = {"type": "array", "items": {"type": "number"}}
_PROBES = {
    "type": "object",
    "description": "One of the two.",
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
    """Which person."""

    id: str
    name: str


class MatchShape(BaseModel):
    """The person that the probe was found to be."""

    person: PersonReference
    similarity: float


class CandidateShape(MatchShape):
    """A person that came near, with the reference that came nearest."""

    face: str


class RecognizedShape(BaseModel):
    """One face and who it is. Box, score and quality are null for an embedding."""

    box: BoxShape | None
    detection_score: float | None
    quality: float | None
    decision: Literal["match", "no_match"]
    match: MatchShape | None
    candidates: list[CandidateShape] = Field(description="People by similarity, best first, whatever the threshold.")
    reason: str | None = Field(
        default=None,
        exclude_if=lambda reason: reason is None,
        description="Where the operator's review kept the face from being looked for: why.",
    )

    @classmethod
    def of(cls, recognized: IdentifiedFace) -> "RecognizedShape":
        """The face as it is answered."""
        decision, face = recognized.decision, recognized.face
        found = FoundFace.of(face) if face is not None else None
        return cls(
            box=found and found.box,
            detection_score=found and found.detection_score,
            quality=found and found.quality,
            decision=decision.outcome,
            match=None if decision.match is None else MatchShape(**_match(decision.match)),
            candidates=[CandidateShape(**_match(one), face=one.face_id) for one in decision.candidates],
            reason=recognized.objection and recognized.objection.reason,
        )


class RecognitionShape(BaseModel):
    """Every face of the picture, largest first, or every probe in its order."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RECOGNITION]})

    faces: list[RecognizedShape]
    threshold: float

    @classmethod
    def of(cls, recognition: Identification) -> "RecognitionShape":
        """The recognition as it is answered."""
        return cls(faces=[RecognizedShape.of(face) for face in recognition.faces], threshold=recognition.threshold)


class VerificationShape(BaseModel):
    """Whether two faces are the same person's."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"verified": True, "similarity": 0.83, "threshold": 0.4, "box": _BOX, "face": "0c4qyk3d9m2wa"}]
        }
    )

    verified: bool
    similarity: float
    threshold: float
    box: BoxShape | None = Field(description="The face of the picture that was looked at: its largest.")
    face: str | None = Field(description="The person's reference that came nearest; null in a comparison.")

    @classmethod
    def of(cls, verification: Verification) -> "VerificationShape":
        """The verification as it is answered."""
        return cls(
            verified=verification.verified,
            similarity=verification.similarity,
            threshold=verification.threshold,
            box=None if verification.face is None else BoxShape.of(verification.face.box),
            face=verification.reference,
        )


@router.post(
    "/galleries/{gallery}/recognize",
    responses=_PICTURE_PROBLEMS,
    openapi_extra=body_of(pictures="One picture.", json=_PROBES),
)
@needs("recognize", runs_model=True)
async def recognize(
    *,
    request: Request,
    gallery: GalleryName,
    session: RequestSession,
    service: CurrentServerState,
    candidates: Candidates = 5,
    threshold: Threshold = None,
) -> RecognitionShape:
    """Identification (1:N): who is on the picture, or whose embeddings these are."""
    if takes_pictures(request):
        picture = await receive_image(request)
        recognition = await recognize_picture(
            session,
            service.encoders,
            gallery,
            picture,
            limit=candidates,
            threshold=threshold,
            review=Review.of(service.settings),
        )
    else:
        probes = await read_probes(request, service.settings.maximum_request_bytes)
        recognition = await recognize_embeddings(session, gallery, probes, limit=candidates, threshold=threshold)
    return RecognitionShape.of(recognition)


@router.post(
    "/galleries/{gallery}/people/{person}/verify",
    responses=_PICTURE_PROBLEMS | problems(NoFaceFound),
    openapi_extra=body_of(pictures="One picture; its largest face counts.", json=_PROBE),
)
@needs("verify", runs_model=True)
async def verify(
    *,
    request: Request,
    gallery: GalleryName,
    person: str,
    session: RequestSession,
    service: CurrentServerState,
    threshold: Threshold = None,
) -> VerificationShape:
    """Verification (1:1): is this that person."""
    if takes_pictures(request):
        picture = await receive_image(request)
        review = Review.of(service.settings)
        found = await verify_picture(
            session, service.encoders, gallery, person, picture, threshold=threshold, review=review
        )
    else:
        probe = await _one_probe(request)
        found = await verify_embedding(session, gallery, person, probe, threshold=threshold)
    return VerificationShape.of(found)


@router.post(
    "/compare",
    responses=_PICTURE_PROBLEMS | problems(NoFaceFound),
    openapi_extra=body_of(pictures="Two pictures; the largest face of each counts.", least=2, most=2),
)
@needs("verify", runs_model=True)
async def compare(
    request: Request, service: CurrentServerState, encoder: EncoderName = None, threshold: Threshold = None
) -> VerificationShape:
    """Compare two pictures, without a gallery; nothing is stored."""
    first, second = await receive_images(request, most=2, least=2)
    review = Review.of(service.settings)
    return VerificationShape.of(
        await compare_pictures(
            service.encoders, first.data, second.data, encoder=encoder, threshold=threshold, review=review
        )
    )


async def _one_probe(request: Request) -> Vector:
    probes = await read_probes(request, MAXIMUM_JSON_BYTES)
    if len(probes) != 1:
        raise InvalidRequest("embeddings: verification takes one")
    return probes[0]


def _match(candidate: Candidate) -> dict[str, Any]:
    person = PersonReference(id=candidate.person_id, name=candidate.name)
    return {"person": person, "similarity": round(candidate.similarity, 6)}
