"""RetinaFace detection of InsightFace's MXNet generation: from the network's nine maps to faces.

The maps: two square anchors per cell at strides 32, 16 and 8, and for each a probability, a box and landmarks (formulas
of FaceDetector in insightface 0.1.5). Any recognition model can follow.
"""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from service.encoder.contract import Image
from service.encoder.networks.detections import Detections, Floats, merged
from service.errors import InvalidModel
from service.models.mxnet.manifest import Manifest, Meaning

LARGEST_PIXELS = 4_000_000
"""A larger image is searched at this size, which bounds time and memory."""

_SCORE_THRESHOLD = 0.5
_ANCHOR_SIDES = {32: (512.0, 256.0), 16: (128.0, 64.0), 8: (32.0, 16.0)}
"""In pixels of the image, by stride."""

_FIRST_CENTER = 7.5
"""Center of the anchors in the first cell, in pixels: insightface derives anchors from a square of 16 pixels at every
stride.
"""


class RetinafaceDetector:
    """One RetinaFace network. Several threads may call `detect` at a time."""

    def __init__(self, session: Any, manifest: Manifest) -> None:
        if manifest.task != "detection" or manifest.landmark_scale is None:
            raise InvalidModel(f"{manifest.name} is a network for {manifest.task}, not a detector")
        self._session = session
        self._landmark_scale = manifest.landmark_scale
        self._input = manifest.input
        self._outputs = {(output.stride, output.meaning): output.name for output in manifest.outputs}

    def detect(self, image: Image) -> Detections:
        """Every face with a probability of at least 0.5. Boxes may reach beyond the image."""
        searched, scale = _bounded(image)
        pixels = (searched.transpose(2, 0, 1)[None].astype(np.float32) - self._input.mean) * self._input.scale
        names = list(self._outputs.values())
        maps = dict(zip(names, self._session.run(names, {self._input.name: pixels}), strict=True))
        found = merged([self._decoded_level(maps, stride) for stride in _ANCHOR_SIDES])
        return Detections(found.boxes / scale, found.scores, found.landmarks / scale)

    def _decoded_level(self, maps: dict[str, Floats], stride: int) -> Detections:
        """The faces of one stride, in pixels of the searched image."""
        sides = np.array(_ANCHOR_SIDES[stride])
        kinds = len(sides)
        # the first half is the probability of "no face"
        probability = self._map(maps, stride, "face_probability")[kinds:]
        anchor, row, column = np.nonzero(probability >= _SCORE_THRESHOLD)
        side = sides[anchor, None]
        center = np.stack([column, row], axis=1) * float(stride) + _FIRST_CENTER

        def at_faces(meaning: Meaning) -> npt.NDArray[np.float64]:
            """Shape (faces, numbers of one anchor)."""
            numbers = self._map(maps, stride, meaning)
            return numbers.reshape(kinds, -1, *numbers.shape[1:])[anchor, :, row, column].astype(np.float64)

        box, points = at_faces("box"), at_faces("landmarks").reshape(-1, 5, 2) * self._landmark_scale
        middle, reach = box[:, :2] * side + center, (np.exp(box[:, 2:]) * side - 1) / 2
        boxes = np.hstack([middle - reach, middle + reach])
        landmarks = points * side[:, None] + center[:, None]
        scores = probability[anchor, row, column]
        return Detections(boxes.astype(np.float32), scores, landmarks.astype(np.float32))

    def _map(self, maps: dict[str, Floats], stride: int, meaning: Meaning) -> Floats:
        """Shape (channels, height, width)."""
        found: Floats = maps[self._outputs[stride, meaning]][0]
        return found


def _bounded(image: Image) -> tuple[Image, np.float32]:
    """The image, or a smaller copy of a very large one, and its scale."""
    height, width = image.shape[:2]
    if height * width <= LARGEST_PIXELS:
        return image, np.float32(1)
    scale = (LARGEST_PIXELS / (height * width)) ** 0.5
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)), np.float32(scale)
