"""A deterministic encoder without a network, shipped for tests and trials. It finds the faces that `fake_pictures`
draws.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.contract import PROCESSOR_BATCHES, BatchShape, Box, DetectedFace, Image, Liveness
from service.encoder.fake_pictures import CELLS, FRAME_COLOR, FRAME_SHARE, PRINTED_COLOR
from service.encoder.kinds import FAKE
from service.encoder.networks.quality import measure_quality

FAKE_SPACE = EmbeddingSpace(
    name=FAKE.name,
    digest=hashlib.sha256(b"face-identity fake encoder 1").hexdigest(),
    dimension=512,
    metric="cosine",
    threshold=0.5,
)
"""Unrelated names have cosines of mean 0 and standard deviation 0.09. Images of one name stay above 0.9."""

_SMALLEST_FACE_PIXELS = 24
_LANDMARKS = ((0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.75), (0.65, 0.75))


class FakeEncoder:
    """Finds magenta frames, and projects the pattern inside them to 512 numbers."""

    def __init__(self, liveness_threshold: float | None = None) -> None:
        """With a `liveness_threshold` the liveness is judged: faces drawn as `printed` get a score of 0, others
        of 1.
        """
        self._liveness_threshold = liveness_threshold
        random = np.random.default_rng(20240229)
        self._projection = random.normal(size=(FAKE_SPACE.dimension, CELLS * CELLS // 2))

    @property
    def space(self) -> EmbeddingSpace:
        """512 numbers compared by cosine."""
        return FAKE_SPACE

    @property
    def detection_side(self) -> int | None:
        return None

    @property
    def crop_side(self) -> int:
        return CELLS

    @property
    def batching(self) -> BatchShape:
        return PROCESSOR_BATCHES

    def load(self) -> None:
        """There are no models."""

    def detect(self, image: Image) -> list[DetectedFace]:
        """Every frame, largest first, from left to right among equals."""
        faces = [_detected(image, box) for box in _frames(image)]
        return sorted(faces, key=lambda face: (-round(face.box.area, -2), face.box.left))

    def inspect(self, image: Image, faces: Sequence[DetectedFace]) -> list[DetectedFace]:
        """The color of the frame tells the liveness."""
        if self._liveness_threshold is None:
            return list(faces)
        return [replace(face, liveness=_liveness(image, face.box, self._liveness_threshold)) for face in faces]

    def align(self, image: Image, faces: Sequence[DetectedFace]) -> list[Image]:
        """The pattern inside each frame, one pixel per cell."""
        return [_cells(image, face.box) for face in faces]

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        """One embedding of shape (512,) per crop, in order."""
        return [self._embedding(crop) for crop in crops]

    def close(self) -> None:
        """There is nothing to release."""

    def _embedding(self, crop: Image) -> Embedding:
        cells = crop[:, :, 1].astype(np.float64)
        folded = (cells[:, : CELLS // 2] + cells[:, : CELLS // 2 - 1 : -1]).ravel()
        centered = folded - folded.mean()
        scale = float(np.linalg.norm(centered)) or 1.0
        projected: Embedding = (self._projection @ (centered / scale)).astype(np.float32)
        return projected + np.float32(1e-6)  # keeps the embedding of a flat pattern from being all zeros


def _frames(image: Image) -> list[Box]:
    """Boxes of square magenta frames. Magenta is a ratio of colors, so that a darker image gives the same boxes."""
    red, green, blue = (image[:, :, channel].astype(np.int16) for channel in range(3))
    light = np.minimum(red, blue)
    mask = ((light > 30) & (light - green > 0.4 * light)).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    return [box for row in stats[1:count] if (box := _frame(*row)) is not None]


def _frame(left: int, top: int, width: int, height: int, area: int) -> Box | None:
    if min(width, height) < _SMALLEST_FACE_PIXELS or not 0.85 < width / height < 1.18:
        return None
    share = area / (width * height)
    expected = 1 - (1 - 2 * FRAME_SHARE) ** 2
    box = Box(float(left), float(top), float(left + width), float(top + height))
    return box if abs(share - expected) < 0.15 else None


def _liveness(image: Image, box: Box, threshold: float) -> Liveness:
    """Liveness from the ratio of blue to red in the upper edge of the frame."""
    height = max(1, round((box.bottom - box.top) * FRAME_SHARE / 2))
    edge = image[round(box.top) : round(box.top) + height, round(box.left) : round(box.right)].astype(np.float64)
    printed, living = (color[2] / color[0] for color in (PRINTED_COLOR, FRAME_COLOR))
    ratio = float(edge[:, :, 2].mean()) / max(1.0, float(edge[:, :, 0].mean()))
    score = min(1.0, max(0.0, (ratio - printed) / (living - printed)))
    return Liveness(score >= threshold, score)


def _cells(image: Image, box: Box) -> Image:
    border = (box.right - box.left) * FRAME_SHARE
    rows = slice(round(box.top + border), max(round(box.bottom - border), round(box.top + border) + 1))
    columns = slice(round(box.left + border), max(round(box.right - border), round(box.left + border) + 1))
    return np.asarray(cv2.resize(image[rows, columns], (CELLS, CELLS), interpolation=cv2.INTER_AREA))


def _detected(image: Image, box: Box) -> DetectedFace:
    width, height = box.right - box.left, box.bottom - box.top
    landmarks = tuple((box.left + x * width, box.top + y * height) for x, y in _LANDMARKS)
    score = 0.99
    parts = measure_quality(image, box, landmarks, score)
    return DetectedFace(box, score, landmarks, parts.score, parts)
