"""SCRFD face detection: the results of insightface's SCRFD class.

The outputs: anchors at strides 8, 16, 32 (and 64, 128 in the one-anchor variant), distances to the four sides and, if
the network has them, five landmarks. One non-maximum suppression merges the boxes of several input sizes.
"""

from functools import lru_cache

import cv2
import numpy as np

from service.encoder.contract import Image
from service.encoder.networks.detections import Detections, Floats, merged, with_others
from service.encoder.networks.session import Session
from service.encoder.networks.turning import near_misses, turned_faces, with_upright_landmarks
from service.errors import InvalidModel

INPUT_SIDES = (128, 640)
"""insightface's default: 640 finds small faces, 128 finds faces that fill the image."""

_SCORE_THRESHOLD = 0.5
_NEAR_MISS_SCORE = 0.3
"""Of large faces upside down. Photographs of one upright face have no other score above 0.2."""
_MARGIN_PIXELS = 64
"""Black border beside the image. Without it, faces near the border move (cosine down to 0.96, compared with
insightface's square input). With 64 pixels they stay (1.000), and an image of 3:2 costs a fifth less than the
square.
"""


class ScrfdDetector:
    """One SCRFD network. Several threads may call `detect` at a time."""

    def __init__(
        self,
        session: Session,
        mean: float,
        std: float,
        sides: tuple[int, ...] = INPUT_SIDES,
        is_square: bool = False,
    ) -> None:
        self._session = session
        self._mean, self._std = mean, std
        self._input = session.get_inputs()[0]
        outputs = session.get_outputs()
        if len(outputs) not in (9, 15):
            raise InvalidModel(f"a detector with {len(outputs)} outputs has no landmarks: 9 or 15 outputs are needed")
        self._strides = (8, 16, 32) if len(outputs) == 9 else (8, 16, 32, 64, 128)
        self._anchors = 2 if len(outputs) == 9 else 1
        fixed = self._input.shape[2]
        self._sides: tuple[int, ...] = (fixed,) if isinstance(fixed, int) else sides
        self._is_square = is_square or isinstance(fixed, int)  # a GPU prepares itself again for every new input shape

    @property
    def largest_side(self) -> int:
        """Longer side, in pixels, at which images are searched."""
        return max(self._sides)

    def detect(self, image: Image) -> Detections:
        """Every face with a score of at least 0.5, upright or turned.

        Near misses, with a score of at least 0.3, are searched again at four turns, unless the network has one large
        input, because each turn then costs as much as the whole search. If there is no face, a search at a smaller
        scale with a border follows, and one for large turned faces: such faces fill the image, so no others are beside
        them.
        """
        scored = merged([self._at_side(image, side, 0, _NEAR_MISS_SCORE) for side in self._sides])
        found = scored.only(scored.scores >= _SCORE_THRESHOLD)
        if not len(found.scores):
            side = min(self._sides)
            found = merged([self._at_side(image, side, side // 4)])
        if not len(found.scores):
            found = turned_faces(image, self._at_smallest_side)
        found = with_upright_landmarks(image, found, self._at_smallest_side)
        if min(self._sides) > min(INPUT_SIDES):
            return found
        missed = scored.only(scored.scores < _SCORE_THRESHOLD)
        return with_others(found, near_misses(image, missed, self._at_smallest_side))

    def _at_smallest_side(self, image: Image) -> Detections:
        return merged([self._at_side(image, min(self._sides), 0)])

    def _at_side(self, image: Image, side: int, margin: int, least: float = _SCORE_THRESHOLD) -> Detections:
        """Detections with a score of `least`. The longer side of the image is scaled to `side` less a `margin` on both
        ends.
        """
        inner, scale = _scaled(image, side - 2 * margin)
        canvas = np.zeros((*self._canvas_size(inner, side, margin), 3), dtype=np.uint8)
        canvas[margin : margin + inner.shape[0], margin : margin + inner.shape[1]] = inner
        blob = cv2.dnn.blobFromImage(canvas, 1 / self._std, canvas.shape[1::-1], (self._mean,) * 3)
        if self._input.type == "tensor(uint8)":
            blob = blob.astype(np.uint8)
        outputs = self._session.run(None, {self._input.name: blob})
        found = [self._decoded_level(outputs, level, canvas.shape[:2], least) for level in range(len(self._strides))]
        boxes, scores, landmarks = (np.concatenate(column) for column in zip(*found, strict=True))
        shift, size = np.float32(margin), np.float32(scale)
        return Detections((boxes - shift) / size, scores, (landmarks - shift) / size)

    def _canvas_size(self, inner: Image, side: int, margin: int) -> tuple[int, int]:
        """Height and width of the input: square, or just as large as the image needs, in multiples of the largest
        stride.
        """
        if self._is_square or margin:
            return side, side
        height, width = (_rounded_up(pixels + _MARGIN_PIXELS, max(self._strides)) for pixels in inner.shape[:2])
        return min(side, height), min(side, width)

    def _decoded_level(
        self, outputs: list[Floats], level: int, size: tuple[int, ...], least: float
    ) -> tuple[Floats, Floats, Floats]:
        """Boxes, scores and landmarks of one stride, in pixels of the network's input, with a score of `least`."""
        stride, levels = self._strides[level], len(self._strides)
        scores = outputs[level].reshape(-1)
        kept = np.flatnonzero(scores >= least)
        centers = _centers(size, stride, self._anchors)[kept]
        sides = outputs[level + levels].reshape(-1, 4)[kept] * stride
        points = outputs[level + 2 * levels].reshape(-1, 5, 2)[kept] * stride
        boxes = np.hstack([centers - sides[:, :2], centers + sides[:, 2:]])
        return boxes, scores[kept], centers[:, None, :] + points


def _scaled(image: Image, longer: int) -> tuple[Image, float]:
    """The image with its longer side at `longer` pixels, and its scale. Sizes are rounded as in insightface."""
    height, width = image.shape[:2]
    ratio = height / width
    new_height, new_width = (longer, int(longer / ratio)) if ratio > 1 else (int(longer * ratio), longer)
    new_height, new_width = max(1, new_height), max(1, new_width)
    return np.asarray(cv2.resize(image, (new_width, new_height))), new_height / height


def _rounded_up(pixels: int, step: int) -> int:
    return -(-pixels // step) * step


@lru_cache(maxsize=256)
def _centers(size: tuple[int, int], stride: int, anchors: int) -> Floats:
    """Anchor points (x, y) of one level, row by row, each repeated for every anchor."""
    rows, columns = (np.arange(side // stride, dtype=np.float32) * stride for side in size)
    grid = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    return np.repeat(grid, anchors, axis=0)
