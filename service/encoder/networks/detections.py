"""Results of a face detector, one box per face: overlapping boxes are merged, and each becomes a face of the
contract.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.encoder.contract import Box, DetectedFace, Image
from service.encoder.networks.quality import measure_quality

Floats = npt.NDArray[np.float32]

_OVERLAP_THRESHOLD = 0.4
"""Two boxes that share more than this part of their union count as one face. insightface uses the value for every
detector.
"""


@dataclass(frozen=True)
class Detections:
    """Boxes (n, 4) as left, top, right, bottom; scores (n,), descending; landmarks (n, 5, 2); in pixels of the
    image.
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats

    def only(self, kept: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Detections":
        """The rows at the indexes `kept`, or the rows where the mask is true."""
        return Detections(self.boxes[kept], self.scores[kept], self.landmarks[kept])


def merged(parts: Sequence[Detections]) -> Detections:
    """All parts together by descending score, without boxes that overlap a better one (non-maximum suppression)."""
    boxes = np.concatenate([part.boxes for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    landmarks = np.concatenate([part.landmarks for part in parts])
    everything = Detections(boxes, scores, landmarks).only(np.argsort(-scores, kind="stable"))
    return everything.only(_without_overlaps(everything.boxes))


def with_others(found: Detections, others: Detections) -> Detections:
    """`found`, unchanged, and those of `others` that overlap none of them."""
    if not len(others.scores):
        return found
    boxes = np.concatenate([found.boxes, others.boxes])
    kept = _without_overlaps(boxes)
    new = others.only(kept[kept >= len(found.scores)] - len(found.scores))
    return Detections(
        np.concatenate([found.boxes, new.boxes]),
        np.concatenate([found.scores, new.scores]),
        np.concatenate([found.landmarks, new.landmarks]),
    )


def faces_of(image: Image, found: Detections) -> list[DetectedFace]:
    """The faces of an image, largest first. Boxes are clipped to the image."""
    faces = [
        _face(image, *(part.tolist() for part in row))
        for row in zip(found.boxes, found.scores, found.landmarks, strict=True)
    ]
    return sorted(faces, key=lambda face: -face.box.area)


def _face(image: Image, sides: list[float], score: float, points: list[list[float]]) -> DetectedFace:
    height, width = image.shape[:2]
    left, top, right, bottom = sides
    box = Box(max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    landmarks = tuple((x, y) for x, y in points)
    parts = measure_quality(image, box, landmarks, score)
    return DetectedFace(box, score, landmarks, parts.score, parts)


def _without_overlaps(boxes: Floats) -> npt.NDArray[np.intp]:
    """Indexes of the boxes that do not overlap a better one by more than the threshold. `boxes` have descending
    scores.
    """
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    left = np.arange(len(boxes))
    kept = []
    while left.size:
        best, rest = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.maximum(0, high - low + 1), axis=1)
        left = rest[shared / (areas[best] + areas[rest] - shared) <= _OVERLAP_THRESHOLD]
    return np.array(kept, dtype=np.intp)
