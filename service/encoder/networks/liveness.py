"""Liveness: InsightFace's liveness addon tells a living face from a photograph of one, if it is installed.

The network judges a crop of 80 x 80 pixels. If too much of the crop lies outside the image, nothing is judged.
"""

from pathlib import Path

import cv2
import numpy as np

from service.encoder.contract import DetectedFace, Image, Liveness
from service.encoder.networks.alignment import similarity_transform
from service.encoder.networks.session import Session
from service.errors import InvalidModel, InvalidSettings
from service.models.packs import file_digest

ADDON_DIGEST = "87a9ac1dbb16a61eec212957e5095e62a8769c1e188af9b0198f253302c4afdb"
"""SHA-256 of the file that InsightFace publishes (insightface/addons/catalog.py)."""

_FILE = Path("addons") / "liveness.onnx"
_SIDE = 80
_MOST_OUTSIDE = 0.3
_TEMPLATE = np.array([[32.03, 38.06], [47.89, 37.98], [40.01, 47.08], [33.50, 56.36], [46.63, 56.29]])


def find_liveness(data_dir: Path) -> Path:
    """The checked file of the addon. Raises InvalidSettings, which names the searched folders. It is never
    downloaded.
    """
    paths = [data_dir / _FILE, Path.home() / ".insightface" / _FILE]
    addon = next((path for path in paths if path.is_file()), None)
    if addon is None:
        raise InvalidSettings(f"LIVENESS needs InsightFace's liveness addon: searched {paths[0]} and {paths[1]}")
    if (digest := file_digest(addon)) != ADDON_DIGEST:
        raise InvalidModel(f"{addon} is not the published liveness addon: its SHA-256 is {digest}")
    return addon


class LivenessNetwork:
    """The network of the addon. Several threads may call `judge` at a time."""

    def __init__(self, session: Session, threshold: float) -> None:
        self._session = session
        self._threshold = threshold
        (given, *others), outputs = self._session.get_inputs(), self._session.get_outputs()
        if others or len(outputs) != 1 or list(given.shape[1:]) != [3, _SIDE, _SIDE]:
            raise InvalidModel(f"not a liveness network: its input is {given.shape}")
        self._input = given.name

    def judge(self, image: Image, face: DetectedFace) -> Liveness:
        """The network's probability of a living face, or the reason for not judging."""
        matrix = similarity_transform(np.array(face.landmarks, dtype=np.float64), _TEMPLATE)
        size = (_SIDE, _SIDE)
        inside = cv2.warpAffine(np.ones(image.shape[:2], dtype=np.float32), matrix, size)
        if 1.0 - float(inside.mean()) > _MOST_OUTSIDE:
            return Liveness(None, None, "too much of the face's surroundings lies outside the image")
        crop = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        pixels = crop.transpose(2, 0, 1)[None].astype(np.float32) / 255.0
        score = float(np.asarray(self._session.run(None, {self._input: pixels})[0]).reshape(-1)[0])
        if not 0.0 <= score <= 1.0:
            raise InvalidModel("the liveness network does not return a probability")
        return Liveness(score >= self._threshold, score)
