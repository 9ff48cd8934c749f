"""Review: which faces the operator allows to enroll and to recognize, by quality gates and by liveness.

A gate is off, basic (the default: refuses faces so dark, bright, small or blurred that strangers match each other),
standard (refuses faces that mislead recognition) or strict (accepts good portraits only). The measures and their
bounds were set on a few dozen photographs (docs/accuracy.md). They are not ISO/IEC 29794-5.
"""

from dataclasses import dataclass, replace
from typing import Literal

from service.encoder.contract import DetectedFace, QualityParts
from service.encoder.kinds import DLIB
from service.errors import (
    FaceBadlyLit,
    FaceBlurred,
    FaceTooSmall,
    FaceTurnedAway,
    FaceUncertain,
    InvalidRequest,
    NotLive,
    ServiceError,
)
from service.settings import Settings

Gate = Literal["off", "basic", "standard", "strict"]

_KINDS: dict[str, type[InvalidRequest]] = {
    "size": FaceTooSmall,
    "sharpness": FaceBlurred,
    "brightness": FaceBadlyLit,
    "pose": FaceTurnedAway,
    "detection": FaceUncertain,
    "contrast": FaceBadlyLit,
    "detail": FaceBlurred,
}
"""The error for each field of QualityParts."""

_BASIC = QualityParts(size=0.03, sharpness=0.0, brightness=0.0, pose=0.0, detection=0.0, contrast=0.25, detail=0.6)
"""19 pixels; a standard deviation of 8 of 255; a blur of a thirtieth of the face's width. Below these bounds strangers
reach the threshold of MobileFaceNet, and most people are missed (benchmarks/spoiled.py, docs/accuracy.md).
"""

_BASIC_OF = {DLIB.name: replace(_BASIC, contrast=0.13)}
"""Bounds for an encoder that was measured to need less: dlib tells people apart in the dark, at a standard
deviation of 4.
"""

_MINIMUM: dict[Gate, QualityParts] = {
    # 35 pixels; below these bounds the cosine of MobileFaceNet to the same person's portrait fell under 0.8
    "standard": replace(_BASIC, size=0.2, sharpness=0.2, brightness=0.3, pose=0.3, detection=0.5),
    # 74 pixels
    "strict": replace(_BASIC, size=0.6, sharpness=0.5, brightness=0.6, pose=0.6, detection=0.7),
}


@dataclass(frozen=True)
class Shortcoming:
    """A shortcoming of a face: its error, the measured value and the minimum of the gate, both from 0 to 1."""

    kind: type[InvalidRequest]
    measured: float
    minimum: float

    @property
    def detail(self) -> str:
        """A sentence for people."""
        return f"{self.kind.slug} ({self.measured:.2f}, the minimum is {self.minimum:.2f})"


@dataclass(frozen=True)
class Objection:
    """The reason for refusing a face: a class of the error catalogue, and a sentence for people."""

    kind: type[ServiceError]
    detail: str

    @property
    def reason(self) -> str:
        """The slug, for programs."""
        return self.kind.slug

    def as_error(self) -> InvalidRequest:
        """The error of a request about this face alone.

        A face of low quality makes an `invalid-request` whose member `reason` has the slug: clients of /v1 read it
        there.
        """
        return NotLive(self.detail) if self.kind is NotLive else InvalidRequest(self.detail, reason=self.reason)


@dataclass(frozen=True)
class Review:
    """Requirements for faces. Without arguments there are none."""

    enrollment: Gate = "off"
    recognition: Gate = "off"
    enforces_liveness: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "Review":
        """The requirements that the settings name."""
        return cls(settings.enrollment_review, settings.recognition_review, settings.liveness == "enforce")

    def of_reference(self, face: DetectedFace, encoder: str = "") -> Objection | None:
        """The objection against enrolling the face, or None. `encoder` is the name of its embedding space."""
        return self._objection(face, self.enrollment, encoder)

    def of_probe(self, face: DetectedFace, encoder: str = "") -> Objection | None:
        """The objection against recognizing the face, or None. `encoder` is the name of its embedding space."""
        return self._objection(face, self.recognition, encoder)

    def _objection(self, face: DetectedFace, gate: Gate, encoder: str) -> Objection | None:
        """A face whose liveness could not be judged counts as not living."""
        if self.enforces_liveness and (face.liveness is None or face.liveness.is_live is not True):
            return Objection(NotLive, "the image does not certainly show a living face")
        lacking = shortcomings(face, gate, encoder)
        return Objection(lacking[0].kind, "; ".join(each.detail for each in lacking)) if lacking else None


NO_REVIEW = Review()


def shortcomings(face: DetectedFace, gate: Gate, encoder: str = "") -> tuple[Shortcoming, ...]:
    """Everything that disqualifies the face, worst first. Empty if the face passes or was not measured.

    `encoder` is the name of the embedding space, whose recognition model may need more or less for `basic`.
    """
    minimum = _BASIC_OF.get(encoder, _BASIC) if gate == "basic" else _MINIMUM.get(gate)
    if minimum is None or face.quality_parts is None:
        return ()
    measures = [
        Shortcoming(kind, getattr(face.quality_parts, part), getattr(minimum, part)) for part, kind in _KINDS.items()
    ]
    lacking = sorted(
        (measure for measure in measures if measure.measured < measure.minimum),
        key=lambda measure: measure.measured - measure.minimum,
    )
    return tuple({measure.kind: measure for measure in reversed(lacking)}.values())[::-1]  # the worst of each kind
