"""The contract of every encoder: pixels in, faces and embeddings out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from service.embedding import Embedding, EmbeddingSpace

Image = npt.NDArray[np.uint8]
"""Pixels of one upright image, shape (height, width, 3), RGB."""


@dataclass(frozen=True)
class Box:
    """Rectangle of a face, in pixels of the upright image."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    @property
    def area(self) -> float:
        """Area in square pixels, 0 for an empty box."""
        return max(0.0, self.width) * max(0.0, self.height)


@dataclass(frozen=True)
class QualityParts:
    """The parts of `quality.heuristic`, each from 0 (useless) to 1 (good enough). Not ISO/IEC 29794-5."""

    size: float
    sharpness: float
    brightness: float
    pose: float
    detection: float
    contrast: float = 1.0
    """For the gates only: the standard deviation of the pixels. 0 for a face that is black, white or gray all over."""
    detail: float = 1.0
    """For the gates only: whether fine structure is left. It tells strong blur from slight blur, where `sharpness` is 0
    for both.
    """

    @property
    def score(self) -> float:
        """The geometric mean of the first five parts."""
        parts = (self.size, self.sharpness, self.brightness, self.pose, self.detection)
        return float(np.prod(parts) ** (1 / len(parts)))


@dataclass(frozen=True)
class Liveness:
    """Result of the liveness check. None, with a `reason`, if it could not be judged. `score` is from 0 to 1."""

    is_live: bool | None
    score: float | None
    reason: str = ""


@dataclass(frozen=True)
class Attributes:
    """A network's guesses from looks. No decision uses them."""

    age_years: int
    gender: Literal["female", "male"]


@dataclass(frozen=True)
class DetectedFace:
    """One face detected in an image. `quality` is a heuristic from 0 to 1, not ISO/IEC 29794-5."""

    box: Box
    detection_score: float
    landmarks: tuple[tuple[float, float], ...]
    """Five points in pixels: left eye, right eye, nose, left and right mouth corner, as seen in the image."""
    quality: float
    quality_parts: QualityParts | None = None
    """The parts of the quality, or None if it was not measured."""
    liveness: Liveness | None = None
    """None if the operator did not ask for it."""
    attributes: Attributes | None = None
    """None if the operator did not ask for them."""


@dataclass(frozen=True)
class EncodedFace:
    """A detected face and its embedding, which is not shown by `repr`."""

    face: DetectedFace
    embedding: Embedding = field(repr=False)


@dataclass(frozen=True)
class BatchShape:
    """Limits of a call of `embed`: most crops per call, and whether calls must run one after the other."""

    largest: int
    one_at_a_time: bool


PROCESSOR_BATCHES = BatchShape(largest=8, one_at_a_time=False)
"""On a CPU a batch costs as much as its faces one by one (3.3 to 3.9 ms each), so small batches keep waits short."""

GPU_BATCHES = BatchShape(largest=64, one_at_a_time=True)


class Encoder(Protocol):
    """One detector and one recognition model. The methods are thread-safe and block.

    Detection, alignment and embedding are separate steps, so that crops of several images share a batch.
    """

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of all embeddings of this encoder."""
        ...

    @property
    def detection_side(self) -> int | None:
        """Detection needs at most this many pixels on the longer side; larger images may be passed in downscaled. None:
        all pixels.
        """
        ...

    @property
    def crop_side(self) -> int:
        """Pixels along a side of a crop. A smaller face of a downscaled image is cut out of the full image."""
        ...

    @property
    def batching(self) -> BatchShape:
        """Limits of a call of `embed`."""
        ...

    def load(self) -> None:
        """Load the models now instead of at the first use."""
        ...

    def detect(self, image: Image) -> list[DetectedFace]:
        """Every face in the image, largest first."""
        ...

    def inspect(self, image: Image, faces: Sequence[DetectedFace]) -> list[DetectedFace]:
        """The faces with liveness and attributes, if the operator asked for them."""
        ...

    def align(self, image: Image, faces: Sequence[DetectedFace]) -> list[Image]:
        """Each face as an upright crop in the form that the recognition model expects. All crops have the same
        shape.
        """
        ...

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        """One embedding per crop, in order. The crops may come from several images."""
        ...

    def close(self) -> None:
        """Release models and threads. The encoder must not be used afterwards."""
        ...
