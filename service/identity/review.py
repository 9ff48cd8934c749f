"""Which faces the operator lets be enrolled and recognized: quality gates, and liveness where it is enforced."""

from dataclasses import dataclass

from service.encoder.contract import DetectedFace
from service.errors import InvalidRequest, NotLive
from service.identity.quality_gate import Gate, shortcomings
from service.settings import Settings

NEARER_TO_ANOTHER = "nearer-to-another-person"
"""Why a strict review refuses a reference that is more like somebody else of the gallery."""


@dataclass(frozen=True)
class Objection:
    """Why a face is not taken: a slug for programs, a sentence for people."""

    reason: str
    detail: str

    def as_error(self) -> InvalidRequest:
        """The same as an error of a request that is about this face alone."""
        return NotLive(self.detail) if self.reason == NotLive.slug else InvalidRequest(self.detail, reason=self.reason)


@dataclass(frozen=True)
class Review:
    """What is asked of faces; by default nothing."""

    enrollment: Gate = "off"
    recognition: Gate = "off"
    enforces_liveness: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "Review":
        """What the operator asks for."""
        return cls(settings.enrollment_review, settings.recognition_review, settings.liveness == "enforce")

    def of_reference(self, face: DetectedFace) -> Objection | None:
        """What speaks against enrolling the face."""
        return self._objection(face, self.enrollment)

    def of_probe(self, face: DetectedFace) -> Objection | None:
        """What speaks against recognizing the face."""
        return self._objection(face, self.recognition)

    def _objection(self, face: DetectedFace, gate: Gate) -> Objection | None:
        """A face whose liveness nobody could judge is not taken for a living one."""
        if self.enforces_liveness and (face.liveness is None or face.liveness.is_live is not True):
            return Objection(NotLive.slug, "the picture does not show a living face for certain")
        lacking = shortcomings(face, gate)
        return Objection(lacking[0].reason, "; ".join(one.detail for one in lacking)) if lacking else None


NO_REVIEW = Review()
