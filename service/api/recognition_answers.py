"""Answers of identification, verification and comparison. The routes and the command line (`--json`) write the same."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.api.shapes import BoxShape, FoundFace, PersonReference, Similarity
from service.gallery.search.search import Candidate
from service.identity.recognize import Identification, IdentifiedFace
from service.identity.verify import Verification

_PERSON: dict[str, Any] = {"id": "0c4qyk3d9m2w8", "name": "Ada", "external_id": "badge-17"}
_ADA: dict[str, Any] = {"person": _PERSON, "similarity": 0.83}
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
    "person": _PERSON,
}
_COMPARED: dict[str, Any] = {"box": _BOX, "detection_score": 0.98, "quality": 0.71}
_COMPARISON: dict[str, Any] = {
    "verified": True,
    "similarity": 0.83,
    "threshold": 0.45,
    "box": _BOX,
    "face": None,
    "faces": [_COMPARED, _COMPARED],
}
Metadata = dict[str, dict[str, Any]]
"""The metadata of people by their ids; empty if it was not asked for."""


class MatchShape(BaseModel):
    """The person that the probe matches."""

    person: PersonReference
    similarity: Similarity
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
        description="The most similar people, best first. Those below the threshold need the scope `probe`."
    )
    reason: str | None = Field(
        default=None,
        exclude_if=lambda reason: reason is None,
        description="Why the operator's review excluded the face from the search; absent if it did not.",
    )

    @classmethod
    def of(cls, recognized: IdentifiedFace, metadata: Metadata) -> "RecognizedShape":
        """Convert a decision to a response, with the metadata of people by their ids."""
        decision, face = recognized.decision, recognized.face
        detected = FoundFace.of(face) if face is not None else None
        return cls(
            box=detected and detected.box,
            detection_score=detected and detected.detection_score,
            quality=detected and detected.quality,
            decision=decision.outcome,
            match=None if decision.match is None else MatchShape(**_match(decision.match, metadata)),
            candidates=[
                CandidateShape(**_match(candidate, metadata), face=candidate.face_id)
                for candidate in decision.candidates
            ],
            reason=recognized.objection and recognized.objection.reason,
        )


class RecognitionShape(BaseModel):
    """Every face of the image, largest first, or every embedding in its order."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RECOGNITION]})

    faces: list[RecognizedShape]
    threshold: float = Field(description="Similarity from which a candidate matches.")

    @classmethod
    def of(cls, recognition: Identification, metadata: Metadata | None = None) -> "RecognitionShape":
        """Convert a recognition to a response, with the metadata of people by their ids."""
        faces = [RecognizedShape.of(face, metadata or {}) for face in recognition.faces]
        return cls(faces=faces, threshold=recognition.threshold)


class VerificationShape(BaseModel):
    """Whether two faces belong to the same person."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VERIFICATION]})

    verified: bool
    similarity: Similarity | None = Field(
        description="Without the scope `probe` it has two digits, and is null if the person is not verified."
    )
    threshold: float
    box: BoxShape | None = Field(description="The largest face of the image; null for an embedding.")
    face: str | None = Field(description="The person's reference most similar to the probe; null in a comparison.")
    person: PersonReference | None = Field(
        default=None, exclude_if=lambda person: person is None, description="The claimed person; not in a comparison."
    )

    @classmethod
    def of(cls, verification: Verification, *, with_metadata: bool = False) -> "VerificationShape":
        """Convert a verification to a response."""
        person = verification.person
        return cls(
            **_verification(verification),
            person=None
            if person is None
            else PersonReference(
                id=person.id,
                name=person.name,
                external_id=person.external_id,
                metadata=person.metadata if with_metadata else None,
            ),
        )


class ComparedFace(BaseModel):
    """The largest face of one of the two images."""

    box: BoxShape
    detection_score: float
    quality: float = Field(description="0..1: a heuristic of sharpness, size and pose.")


class ComparisonShape(VerificationShape):
    """Whether the faces of two images belong to the same person. `box` is the face of the second image."""

    model_config = ConfigDict(json_schema_extra={"examples": [_COMPARISON]})

    faces: list[ComparedFace] = Field(description="The face of the first image and that of the second.")

    @classmethod
    def of_two(cls, verification: Verification) -> "ComparisonShape":
        """Convert the comparison of two images to a response."""
        found = [FoundFace.of(face) for face in verification.compared]
        faces = [
            ComparedFace(box=face.box, detection_score=face.detection_score, quality=face.quality) for face in found
        ]
        return cls(**_verification(verification), faces=faces)


def _verification(verification: Verification) -> dict[str, Any]:
    return {
        "verified": verification.verified,
        "similarity": verification.similarity,
        "threshold": verification.threshold,
        "box": None if verification.face is None else BoxShape.of(verification.face.box),
        "face": verification.reference,
    }


def _match(candidate: Candidate, metadata: Metadata) -> dict[str, Any]:
    person = PersonReference(
        id=candidate.person_id,
        name=candidate.name,
        external_id=candidate.external_id,
        metadata=metadata.get(candidate.person_id),
    )
    return {"person": person, "similarity": candidate.similarity, "gallery": candidate.gallery}
