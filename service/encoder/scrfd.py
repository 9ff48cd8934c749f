"""SCRFD face detection on ONNX Runtime: the numbers of insightface's SCRFD, without its session juggling.

What the network means: anchors at strides 8, 16, 32 (and 64, 128 in the one-anchor kind), distances to the four
sides and, where the network has them, five landmarks. Boxes of several input sizes are merged by one NMS.
"""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from service.encoder.contract import Image
from service.encoder.detections import Detections, Floats, merged
from service.errors import InvalidModel

_INPUT_SIDES = (128, 640)  # insightface's default: 128 finds the faces that fill the picture
_SCORE_THRESHOLD = 0.5


class ScrfdDetector:
    """One SCRFD network. `detect` may be called by several threads at a time."""

    def __init__(self, session: Any, mean: float, std: float) -> None:
        self._session = session
        self._mean, self._std = mean, std
        self._input = session.get_inputs()[0]
        outputs = session.get_outputs()
        if len(outputs) not in (9, 15):
            raise InvalidModel(f"a detector with {len(outputs)} outputs gives no landmarks: 9 or 15 are needed")
        self._strides = (8, 16, 32) if len(outputs) == 9 else (8, 16, 32, 64, 128)
        self._anchors = 2 if len(outputs) == 9 else 1
        fixed = self._input.shape[2]
        self._sides = (fixed,) if isinstance(fixed, int) else _INPUT_SIDES

    def detect(self, image: Image) -> Detections:
        """Every face with a score of 0.5 or more; once more at a smaller scale with a border where there is none."""
        found = merged([self._at_side(image, side, side) for side in self._sides])
        if len(found.scores):
            return found
        side = self._sides[0]
        return merged([self._at_side(image, side, side // 2)])

    def _at_side(self, image: Image, side: int, inner: int) -> Detections:
        """Detections with the longer side of the picture scaled to `inner` pixels on a black square of `side`."""
        canvas, scale = _letterbox(image, side, inner)
        blob = cv2.dnn.blobFromImage(canvas, 1 / self._std, (side, side), (self._mean,) * 3)
        if self._input.type == "tensor(uint8)":
            blob = blob.astype(np.uint8)
        outputs = self._session.run(None, {self._input.name: blob})
        found = [self._decoded_level(outputs, level, side) for level in range(len(self._strides))]
        boxes, scores, landmarks = (np.concatenate(column) for column in zip(*found, strict=True))
        margin = np.float32((side - inner) // 2)
        return Detections((boxes - margin) / np.float32(scale), scores, (landmarks - margin) / np.float32(scale))

    def _decoded_level(self, outputs: list[Floats], level: int, side: int) -> tuple[Floats, Floats, Floats]:
        """Boxes, scores and landmarks of one stride above the score threshold, in pixels of the network's input."""
        stride, levels = self._strides[level], len(self._strides)
        scores = outputs[level].reshape(-1)
        kept = np.flatnonzero(scores >= _SCORE_THRESHOLD)
        centers = _centers(side, stride, self._anchors)[kept]
        sides = outputs[level + levels].reshape(-1, 4)[kept] * stride
        points = outputs[level + 2 * levels].reshape(-1, 5, 2)[kept] * stride
        boxes = np.hstack([centers - sides[:, :2], centers + sides[:, 2:]])
        return boxes, scores[kept], centers[:, None, :] + points


def _letterbox(image: Image, side: int, inner: int) -> tuple[Image, float]:
    """The picture in a black square and its scale; flush left and top as insightface lays it, or with a margin."""
    height, width = image.shape[:2]
    ratio = height / width
    new_height, new_width = (inner, int(inner / ratio)) if ratio > 1 else (int(inner * ratio), inner)
    new_height, new_width = max(1, new_height), max(1, new_width)
    margin = (side - inner) // 2
    canvas = np.zeros((side, side, 3), dtype=np.uint8)
    canvas[margin : margin + new_height, margin : margin + new_width] = cv2.resize(image, (new_width, new_height))
    return canvas, new_height / height


@lru_cache(maxsize=64)
def _centers(side: int, stride: int, anchors: int) -> Floats:
    """Anchor points (x, y) of one level, row by row, each as often as there are anchors."""
    places = np.arange(side // stride, dtype=np.float32) * stride
    grid = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)
    return np.repeat(grid, anchors, axis=0)
