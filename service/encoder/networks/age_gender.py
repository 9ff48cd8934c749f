"""Guesses of age and gender by InsightFace's genderage network, if the operator asked for them.

They are guesses from looks, often wrong and easily unfair. No decision of the service uses them.
"""

from pathlib import Path

import cv2
import numpy as np

from service.encoder.contract import Attributes, DetectedFace, Image
from service.encoder.networks.session import Session
from service.errors import InvalidModel, InvalidSettings
from service.models.packs import load_onnx

_SIDE = 96
_BORDER = 1.5  # the crop is larger than the box by this factor


def find_attributes(pack: Path) -> Path:
    """The genderage network in the folder of a pack. Raises InvalidSettings if there is none."""
    for path in sorted(pack.glob("*.onnx")):
        sides = _input_sides(path)
        if sides == [_SIDE, _SIDE]:
            return path
    raise InvalidSettings(f"ATTRIBUTES needs a network for age and gender in {pack}: install the whole pack")


def _input_sides(path: Path) -> list[int]:
    graph = load_onnx(path, weights=False).graph
    return [dimension.dim_value for dimension in graph.input[0].type.tensor_type.shape.dim][2:4]


class AttributesNetwork:
    """The genderage network. Several threads may call `guess` at a time."""

    def __init__(self, session: Session, file: Path) -> None:
        """`file` is the model of the session. Its first nodes tell how pixels are scaled."""
        names = [node.name for node in load_onnx(file, weights=False).graph.node[:8]]
        scales_itself = "bn_data" in names[:3] or (_any(names, "Sub", "_minus") and _any(names, "Mul", "_mul"))
        self._mean, self._std = (0.0, 1.0) if scales_itself else (127.5, 128.0)
        self._session = session
        self._input = self._session.get_inputs()[0].name

    def guess(self, image: Image, face: DetectedFace) -> Attributes:
        """The network's guesses for the face."""
        box = face.box
        scale = _SIDE / (max(box.right - box.left, box.bottom - box.top, 1.0) * _BORDER)
        center = np.array([box.left + box.right, box.top + box.bottom]) / 2
        matrix = np.hstack([np.eye(2) * scale, (_SIDE / 2 - center * scale)[:, None]])
        crop = cv2.warpAffine(image, matrix, (_SIDE, _SIDE), borderValue=0.0)
        blob = cv2.dnn.blobFromImage(crop, 1 / self._std, (_SIDE, _SIDE), (self._mean,) * 3)
        numbers = np.asarray(self._session.run(None, {self._input: blob})[0]).reshape(-1)
        if numbers.size != 3:
            raise InvalidModel("the network for age and gender does not return three numbers")
        return Attributes(round(float(numbers[2]) * 100), "female" if numbers[0] >= numbers[1] else "male")


def _any(names: list[str], *beginnings: str) -> bool:
    return any(name.startswith(beginnings) for name in names)
