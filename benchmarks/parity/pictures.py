"""The photographs of ../shared/faces as arrays: whole images for detectors, aligned crops for the other networks."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from service.encoder.images.decode import ImageLimits, decode_image
from service.encoder.networks.alignment import aligned_crop
from service.encoder.networks.retinaface import RetinafaceDetector
from service.encoder.runtime.sessions import PROCESSOR, open_session
from service.models.mxnet.manifest import read_manifest
from tests.support.data import ROOT

BATCH = 8
_LIMITS = ImageLimits(bytes=10**9, pixels=10**9)


def photographs() -> dict[str, np.ndarray]:
    """Return every still image by its path, RGB."""
    paths = [path for path in sorted((ROOT / "faces").rglob("*")) if path.suffix in (".jpg", ".png")]
    return {str(path.relative_to(ROOT / "faces")): decode_image(path.read_bytes(), _LIMITS) for path in paths}


def open_detector(model: Path) -> RetinafaceDetector:
    """Return the service's own detector over a converted network."""
    return RetinafaceDetector(open_session(model, PROCESSOR), read_manifest(model.parent))


def as_input(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return images of one size, (height, width, 3), as a network's input: (n, 3, height, width)."""
    return np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32)


def frames(pictures: dict[str, np.ndarray], height: int, width: int) -> np.ndarray:
    """Return eight photographs at one size, shape (8, 3, height, width)."""
    return as_input([cv2.resize(picture, (width, height)) for picture in list(pictures.values())[:BATCH]])


def crops(pictures: dict[str, np.ndarray], detector: RetinafaceDetector) -> np.ndarray:
    """Return the largest face of each of eight photographs, aligned, shape (8, 3, 112, 112)."""
    aligned = []
    for picture in list(pictures.values())[:BATCH]:
        faces = detector.detect(picture)
        largest = np.argmax(np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1))
        aligned.append(aligned_crop(picture, faces.landmarks[largest], 112))
    return as_input(aligned)
