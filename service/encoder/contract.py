"""What every encoder promises: pixels in, faces and embeddings out. No SQL, no HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from service.embedding import Embedding, EmbeddingSpace

Image = npt.NDArray[np.uint8]
"""Pixels of one upright picture, shape (height, width, 3), RGB."""


@dataclass(frozen=True)
class Box:
    """A face's rectangle in pixels of the upright picture."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Square pixels; 0 for an empty box."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)


@dataclass(frozen=True)
class QualityParts:
    """What `quality.heuristic` is made of, each 0 (useless) to 1 (good enough); not ISO/IEC 29794-5."""

    size: float
    sharpness: float
    brightness: float
    pose: float
    detection: float

    @property
    def score(self) -> float:
        """The geometric mean of the parts."""
        parts = (self.size, self.sharpness, self.brightness, self.pose, self.detection)
        return float(np.prod(parts) ** (1 / len(parts)))


@dataclass(frozen=True)
class Liveness:
    """Whether a living face was seen; None, with the `reason`, where it could not be judged. `score`: 0..1."""

    is_live: bool | None
    score: float | None
    reason: str = ""


@dataclass(frozen=True)
class Attributes:
    """A network's guesses from looks; nothing is decided by them."""

    age_years: int
    gender: Literal["female", "male"]


@dataclass(frozen=True)
class DetectedFace:
    """One face found in a picture. `quality` is a heuristic of 0..1, not ISO/IEC 29794-5."""

    box: Box
    detection_score: float
    landmarks: tuple[tuple[float, float], ...]
    """Five points in pixels: left eye, right eye, nose, left and right mouth corner, as seen in the picture."""
    quality: float
    quality_parts: QualityParts | None = None
    """What the quality is made of; None where nobody measured it."""
    liveness: Liveness | None = None
    """None where the operator did not ask for it."""
    attributes: Attributes | None = None
    """None where the operator did not ask for them."""


@dataclass(frozen=True)
class EncodedFace:
    """A detected face and its embedding."""

    face: DetectedFace
    embedding: Embedding


@dataclass(frozen=True)
class BatchShape:
    """How an encoder's `embed` is best called: crops in a call at most, and whether calls must follow each other."""

    largest: int
    one_at_a_time: bool


PROCESSOR_BATCHES = BatchShape(largest=8, one_at_a_time=False)
"""On a processor a batch costs as much as its faces one by one (3.3 to 3.9 ms each), so small ones keep waits short."""

GPU_BATCHES = BatchShape(largest=64, one_at_a_time=True)


class Encoder(Protocol):
    """One detector and one recognition model. Methods are thread-safe and block while they work.

    The three steps are apart so that crops of several pictures can be embedded in one batch.
    """

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of every embedding this encoder gives."""
        ...

    @property
    def detection_side(self) -> int | None:
        """Pixels along the longer side that are enough to detect in; larger pictures may come halved. None: all."""
        ...

    @property
    def crop_side(self) -> int:
        """Pixels along a side of a crop: a face that is smaller in a halved picture is cut out of the whole one."""
        ...

    @property
    def batching(self) -> BatchShape:
        """How `embed` is best called."""
        ...

    def load(self) -> None:
        """Load the models now rather than at the first use."""
        ...

    def detect(self, image: Image) -> list[DetectedFace]:
        """Every face in the picture, largest first."""
        ...

    def inspect(self, image: Image, faces: Sequence[DetectedFace]) -> list[DetectedFace]:
        """`faces` with liveness and attributes, where the operator asked for them; else as they are."""
        ...

    def align(self, image: Image, faces: Sequence[DetectedFace]) -> list[Image]:
        """Each of `faces` cut out upright, as the recognition model takes it; all crops have the same shape."""
        ...

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        """One embedding for each crop of `align`, in their order; the crops may come from several pictures."""
        ...

    def close(self) -> None:
        """Let go of models and threads; the encoder is not used afterwards."""
        ...
