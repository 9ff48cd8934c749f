"""The default encoder: dlib's HOG face detector, 5 landmarks and 128-d ResNet, with weights from an installed package.

The package is face-recognition-models (public domain). Its __init__ needs the removed pkg_resources, so it is never
imported. The models load at the first use. dlib detects and aligns; its network runs in ONNX Runtime.
"""

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import cv2
import numpy as np

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.contract import PROCESSOR_BATCHES, BatchShape, Box, DetectedFace, Image
from service.encoder.kinds import DLIB
from service.encoder.networks.dlib_resnet import CHIP_SIDE, dlib_onnx_model
from service.encoder.networks.quality import measure_quality
from service.encoder.networks.session import Session
from service.encoder.runtime.processors import usable_processors
from service.encoder.runtime.sessions import PROCESSOR, Device, open_session
from service.errors import InvalidModel

THRESHOLD = 0.45
"""Similarity, 1 - distance. dlib's own bound on the distance is 0.6, ours is 0.55:
docs/decisions/0005-encoders-and-thresholds.md.
"""

_LANDMARK_FILE = "shape_predictor_5_face_landmarks.dat"
_RECOGNITION_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_DIGESTS = {
    _LANDMARK_FILE: "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    _RECOGNITION_FILE: "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
}
"""SHA-256 of the files in face-recognition-models 0.3.0."""
_CHIP_BORDER = 0.25  # the border of dlib's compute_face_descriptor
_PREPROCESSING = b"dlib hog; 5 landmarks; chip 150 px, padding 0.25; no jitter"
_SMALLEST_FACE_PIXELS = 80  # the smallest face that the HOG detector finds without upscaling
_LONGEST_SIDE_PIXELS = 1600  # larger images are searched at this size: 150 ms instead of 1 s for 20 megapixels
_LONGEST_ENLARGED_PIXELS = 2400  # size of the finer search
_NEAR_MISS_SCORE = -1.0  # of small faces in groups -0.97 and more
_LARGEST_NEAR_MISS_PIXELS = 100  # in the first search, whose smallest window has 73
_CHECKED_NEAR_MISSES = 2  # each costs up to a fiftieth of the first search
_ENLARGE_BELOW_PIXELS = 900


class DlibEncoder:
    """HOG detection at a bounded size, landmarks and embedding at full size."""

    def __init__(self, device: Device = PROCESSOR, *, always_finely: bool = False) -> None:
        """`device`: the CPU, with the threads that ONNX Runtime may use. `always_finely`: search every image a second
        time, for small faces.
        """
        self._device = device
        self._always_finely = always_finely
        folder = _weights_folder()
        self._landmark_path = folder / _LANDMARK_FILE
        self._recognition_path = folder / _RECOGNITION_FILE
        self._space = _space(self._landmark_path, self._recognition_path)
        self._loading = threading.Lock()
        self._loaded: _Models | None = None

    @property
    def space(self) -> EmbeddingSpace:
        """128 numbers compared by Euclidean distance."""
        return self._space

    @property
    def detection_side(self) -> int | None:
        """None: halving an image moves dlib's landmarks, which are whole pixels (cosine down to 0.97)."""
        return None

    @property
    def crop_side(self) -> int:
        return CHIP_SIDE

    @property
    def batching(self) -> BatchShape:
        return PROCESSOR_BATCHES

    def load(self) -> None:
        self._models()

    def detect(self, image: Image) -> list[DetectedFace]:
        """Every face of about 50 pixels or more, or 1/30 of the longer side in large images, largest first."""
        models = self._models()
        detector = models.detectors.get()
        try:
            found = _search(detector, image, self._always_finely)
        finally:
            models.detectors.put(detector)
        faces = [_detected(models.landmarks, image, rectangle, score) for rectangle, score in found]
        return sorted(faces, key=lambda face: -face.box.area)

    def inspect(self, image: Image, faces: Sequence[DetectedFace]) -> list[DetectedFace]:  # noqa: ARG002 - of the contract
        return list(faces)

    def align(self, image: Image, faces: Sequence[DetectedFace]) -> list[Image]:
        """Each face turned upright, 150 x 150 pixels, with a border of a quarter."""
        import dlib

        landmarks = self._models().landmarks
        return [
            dlib.get_face_chip(image, landmarks(image, _rectangle(face.box)), CHIP_SIDE, _CHIP_BORDER) for face in faces
        ]

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        """One embedding of shape (128,) per crop, in order."""
        if not crops:
            return []
        blob = np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)
        return list(self._models().network.run(None, {"chips": blob})[0])

    def close(self) -> None:
        self._loaded = None

    def _models(self) -> "_Models":
        with self._loading:
            if self._loaded is None:
                self._loaded = _load(self._landmark_path, self._recognition_path, self._device)
            return self._loaded


class _Models(NamedTuple):
    """Objects of dlib, which declares no types. A detector keeps buffers between calls, so it handles one call at a
    time.
    """

    detectors: "SimpleQueue[Any]"
    landmarks: Any
    network: Session


def _load(landmarks: Path, recognition: Path, device: Device) -> _Models:
    import dlib

    detectors: SimpleQueue[Any] = SimpleQueue()
    for _ in range(usable_processors()):
        detectors.put(dlib.get_frontal_face_detector())
    session = open_session(dlib_onnx_model(recognition), device)
    return _Models(detectors, dlib.shape_predictor(str(landmarks)), session)


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
            found = hashlib.file_digest(opened, "sha256")
        if found.hexdigest() != _DIGESTS[file.name]:
            raise InvalidModel(f"{file.name} is not the published file: its SHA-256 is {found.hexdigest()}")
        digest.update(found.digest())
    return EmbeddingSpace(DLIB.name, digest.hexdigest(), 128, "euclidean", THRESHOLD)


class _Found(NamedTuple):
    """A rectangle in pixels of the image, and the score of the detector; 0 and more is a face."""

    rectangle: Any
    score: float


def _search(detector: Any, image: Image, always_finely: bool) -> list[_Found]:
    """The faces of an image: those of a search at a bounded size and, if faces may be left, those of a finer one.

    The finer search costs two to three times as much as the first one, too much for every portrait. So it runs if the
    first one found nothing, or if one of its near misses is a small face. Near misses cost nothing, because the
    detector computes the scores of all places anyway. A face of two thirds of the smallest size is a near miss.
    """
    longest = max(image.shape[:2])
    scale = 2.0 if longest < _ENLARGE_BELOW_PIXELS else min(1.0, _LONGEST_SIDE_PIXELS / longest)
    scored = _at_scale(detector, image, scale, _NEAR_MISS_SCORE)
    found = [face for face in scored if face.score >= 0]
    finer = min(2 * scale, _LONGEST_ENLARGED_PIXELS / longest)
    if finer <= 1.2 * scale:
        return found
    if found and not (always_finely or _may_have_small_faces(detector, image, scale, scored)):
        return found
    return found + [face for face in _at_scale(detector, image, finer) if not _is_covered(face, found)]


def _may_have_small_faces(detector: Any, image: Image, scale: float, scored: list[_Found]) -> bool:
    """Whether one of the best small near misses of the search at `scale` is a face.

    An enlarged image has shown every face of about 30 pixels. Smaller ones are useless.
    """
    if scale > 1:
        return False
    found = [face for face in scored if face.score >= 0]
    small = [face for face in scored if face.score < 0 and face.rectangle.width() * scale < _LARGEST_NEAR_MISS_PIXELS]
    missed = sorted((face for face in small if not _is_covered(face, found)), key=lambda face: -face.score)
    return any(_is_face(detector, image, face, 1.5 * scale) for face in missed[:_CHECKED_NEAR_MISSES])


def _is_face(detector: Any, image: Image, miss: _Found, scale: float) -> bool:
    """Search at the near miss alone, in gray, which costs a quarter less."""
    center, half = miss.rectangle.center(), round(0.7 * miss.rectangle.width())
    top, left = max(0, center.y - half), max(0, center.x - half)
    part = cv2.cvtColor(image[top : center.y + half, left : center.x + half], cv2.COLOR_RGB2GRAY)
    return bool(_at_scale(detector, part, scale))


def _is_covered(face: _Found, found: list[_Found]) -> bool:
    """Whether the middle of the face is inside a face that was found before, which keeps its rectangle."""
    return any(earlier.rectangle.contains(face.rectangle.center()) for earlier in found)


def _at_scale(detector: Any, image: Image, scale: float, least_score: float = 0.0) -> list[_Found]:
    import dlib

    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if min(size) < _SMALLEST_FACE_PIXELS:  # gives a face that fills the image a border
        scale = scale * _SMALLEST_FACE_PIXELS / min(size)
        size = round(width * scale), round(height * scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = image if size == (width, height) else cv2.resize(image, size, interpolation=method)
    rectangles, scores, _ = detector.run(np.ascontiguousarray(resized), 0, least_score)
    return [
        _Found(dlib.rectangle(*(round(side / scale) for side in (r.left(), r.top(), r.right(), r.bottom()))), score)
        for r, score in zip(rectangles, scores, strict=True)
    ]


def _rectangle(box: Box) -> Any:
    import dlib

    return dlib.rectangle(round(box.left), round(box.top), round(box.right), round(box.bottom))


def _detected(predictor: Any, image: Image, rectangle: Any, score: float) -> DetectedFace:
    box = Box(rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom())
    points = [(float(part.x), float(part.y)) for part in predictor(image, rectangle).parts()]
    landmarks = _five_points(points)
    confidence = float(np.clip(0.5 + score / 2, 0.0, 1.0))
    parts = measure_quality(image, box, landmarks, confidence)
    return DetectedFace(box, confidence, landmarks, parts.score, parts)


def _five_points(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """dlib's five points are the corners of both eyes and the base of the nose. The mouth corners are computed from
    them.

    dlib's order: right eye as seen in the image (outer, inner), left eye (outer, inner), nose.
    """
    corners = np.array(points)
    right, left, nose = corners[0:2].mean(axis=0), corners[2:4].mean(axis=0), corners[4]
    middle = (left + right) / 2
    lower = nose + (nose - middle) * 0.6
    half = (right - left) * 0.38
    return tuple((float(x), float(y)) for x, y in (left, right, nose, lower - half, lower + half))
