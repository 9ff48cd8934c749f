"""What face detectors find, one box a face: overlapping finds are merged, and each becomes a face of the contract."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.encoder.contract import Box, DetectedFace, Image
from service.encoder.networks.quality import measure_quality

Floats = npt.NDArray[np.float32]

_OVERLAP_THRESHOLD = 0.4
"""Of two boxes that share more of their common area the better one stays, as insightface has it for every detector."""


@dataclass(frozen=True)
class Detections:
    """Boxes (n, 4) as left, top, right, bottom; scores (n,), falling; landmarks (n, 5, 2); in pixels of the picture."""

    boxes: Floats
    scores: Floats
    landmarks: Floats

    def only(self, kept: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Detections":
        """Those at the places `kept`, in that order, or those where it is true."""
        return Detections(self.boxes[kept], self.scores[kept], self.landmarks[kept])


def merged(parts: Sequence[Detections]) -> Detections:
    """All parts as one by falling score, without the boxes that overlap a better one."""
    boxes = np.concatenate([part.boxes for part in parts])
    scores = np.concatenate([part.scores for part in parts])
    landmarks = np.concatenate([part.landmarks for part in parts])
    everything = Detections(boxes, scores, landmarks).only(np.argsort(-scores, kind="stable"))
    return everything.only(_without_overlaps(everything.boxes))


def faces_of(image: Image, found: Detections) -> list[DetectedFace]:
    """The faces of a picture, largest first; boxes are cut at its borders."""
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
    """Places of the boxes that overlap no better one by more than the threshold; `boxes` by falling score."""
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
