"""The photographs of ../shared/faces as arrays: whole for detectors, aligned crops for the other networks."""

from pathlib import Path

import cv2
import numpy as np

from service.encoder.alignment import aligned_crop
from service.encoder.images import ImageLimits, decode_image
from service.encoder.mxnet.manifest import read_manifest
from service.encoder.retinaface import RetinafaceDetector
from service.encoder.sessions import open_session
from tests.support.data import ROOT

BATCH = 8
_LIMITS = ImageLimits(bytes=10**9, pixels=10**9)


def photographs() -> dict[str, np.ndarray]:
    """Every still picture by its path, RGB."""
    paths = [path for path in sorted((ROOT / "faces").rglob("*")) if path.suffix in (".jpg", ".png")]
    return {str(path.relative_to(ROOT / "faces")): decode_image(path.read_bytes(), _LIMITS) for path in paths}


def frames(pictures: dict[str, np.ndarray], height: int, width: int) -> np.ndarray:
    """Eight photographs at one size, shape (8, 3, height, width)."""
    chosen = list(pictures.values())[:BATCH]
    return np.stack([cv2.resize(picture, (width, height)) for picture in chosen]).transpose(0, 3, 1, 2).astype(np.float32)


def crops(pictures: dict[str, np.ndarray], detector: Path) -> np.ndarray:
    """The largest face of eight photographs, aligned, shape (8, 3, 112, 112)."""
    session = open_session(detector, -1, 1, "DETECTOR_LOAD_DEVICE")
    found = RetinafaceDetector(session, read_manifest(detector.parent))
    aligned = []
    for picture in list(pictures.values())[:BATCH]:
        faces = found.detect(picture)
        largest = np.argmax(np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1))
        aligned.append(aligned_crop(picture, faces.landmarks[largest], 112))
    return np.stack(aligned).transpose(0, 3, 1, 2).astype(np.float32)
