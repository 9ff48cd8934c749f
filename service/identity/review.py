"""Review: which faces the operator allows to enroll and to recognize, by quality gates and by liveness."""

from dataclasses import dataclass

from service.encoder.contract import DetectedFace
from service.errors import InvalidRequest, NotLive
from service.identity.quality_gate import Gate, shortcomings
from service.settings import Settings

NEARER_TO_ANOTHER = "nearer-to-another-person"
"""Reason of a strict review for refusing a reference that is more similar to another person of the gallery."""


@dataclass(frozen=True)
class Objection:
    """The reason for refusing a face: a slug for programs, a sentence for people."""

    reason: str
    detail: str

    def as_error(self) -> InvalidRequest:
        """The objection as the error of a request about this face alone."""
        return NotLive(self.detail) if self.reason == NotLive.slug else InvalidRequest(self.detail, reason=self.reason)


@dataclass(frozen=True)
class Review:
    """Requirements for faces. By default there are none."""

    enrollment: Gate = "off"
    recognition: Gate = "off"
    enforces_liveness: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "Review":
        """The requirements that the settings name."""
        return cls(settings.enrollment_review, settings.recognition_review, settings.liveness == "enforce")

    def of_reference(self, face: DetectedFace) -> Objection | None:
        """The objection against enrolling the face, or None."""
        return self._objection(face, self.enrollment)

    def of_probe(self, face: DetectedFace) -> Objection | None:
        """The objection against recognizing the face, or None."""
        return self._objection(face, self.recognition)

    def _objection(self, face: DetectedFace, gate: Gate) -> Objection | None:
        """A face whose liveness could not be judged counts as not living."""
        if self.enforces_liveness and (face.liveness is None or face.liveness.is_live is not True):
            return Objection(NotLive.slug, "the image does not certainly show a living face")
        lacking = shortcomings(face, gate)
        return Objection(lacking[0].reason, "; ".join(one.detail for one in lacking)) if lacking else None


NO_REVIEW = Review()
