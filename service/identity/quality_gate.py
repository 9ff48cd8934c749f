"""Quality gates: which faces are good enough to enroll or recognize, with the reasons for refusing the others.

A gate is off, standard (refuses faces that mislead recognition) or strict (accepts good portraits only). The heuristic
and its bounds were set on a few dozen photographs. They are not ISO/IEC 29794-5.
"""

from dataclasses import dataclass
from typing import Literal

from service.encoder.contract import DetectedFace, QualityParts

Gate = Literal["off", "standard", "strict"]

Reason = Literal["face-too-small", "face-blurred", "face-badly-lit", "face-turned-away", "face-uncertain"]

_REASONS: dict[str, Reason] = {
    "size": "face-too-small",
    "sharpness": "face-blurred",
    "brightness": "face-badly-lit",
    "pose": "face-turned-away",
    "detection": "face-uncertain",
}

_LEAST: dict[Gate, QualityParts] = {
    # 35 pixels; below these bounds the cosine of MobileFaceNet to the same person's portrait fell under 0.8
    "standard": QualityParts(size=0.2, sharpness=0.2, brightness=0.3, pose=0.3, detection=0.5),
    # 74 pixels
    "strict": QualityParts(size=0.6, sharpness=0.5, brightness=0.6, pose=0.6, detection=0.7),
}


@dataclass(frozen=True)
class Shortcoming:
    """A shortcoming of a face: the reason, the measured value and the minimum of the gate, both from 0 to 1."""

    reason: Reason
    measured: float
    least: float

    @property
    def detail(self) -> str:
        """A sentence for people."""
        return f"{self.reason} ({self.measured:.2f}, the minimum is {self.least:.2f})"


def shortcomings(face: DetectedFace, gate: Gate) -> tuple[Shortcoming, ...]:
    """Everything that disqualifies the face, worst first. Empty if the face passes or was not measured."""
    least = _LEAST.get(gate)
    if least is None or face.quality_parts is None:
        return ()
    found = [
        Shortcoming(reason, getattr(face.quality_parts, part), getattr(least, part))
        for part, reason in _REASONS.items()
    ]
    lacking = [one for one in found if one.measured < one.least]
    return tuple(sorted(lacking, key=lambda one: one.measured - one.least))
