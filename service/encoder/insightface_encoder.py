"""The insightface encoder: the detection and recognition networks of a pack, run by ONNX Runtime.

It gives what insightface.app.FaceAnalysis gives (a test holds it), with control over devices, threads and batches.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.alignment import aligned_crop
from service.encoder.arcface import ArcfaceRecognizer, batched_model
from service.encoder.contract import Box, DetectedFace, Image
from service.encoder.packs import ModelFile, Pack, load_onnx
from service.encoder.quality import measure_quality
from service.encoder.scrfd import Detections, ScrfdDetector
from service.encoder.sessions import open_session

THRESHOLD = 0.4
"""Cosine similarity from which two faces count as the same person; docs/decisions tells where it comes from."""

_PREPROCESSING = "insightface: scrfd 0.5, 5 landmarks, arcface template, RGB"


class InsightfaceEncoder:
    """SCRFD and an ArcFace-style network. InvalidSettings where a device is missing, InvalidModel for a bad file."""

    def __init__(self, name: str, pack: Pack, detector_device: int = -1, recognizer_device: int = -1) -> None:
        detection, recognition = pack.detection, pack.recognition
        session = open_session(detection.path, detector_device, 1, "DETECTOR_LOAD_DEVICE")
        self._detector = ScrfdDetector(session, detection.mean, detection.std)
        model = batched_model(load_onnx(recognition.path))
        session = open_session(model, recognizer_device, 1, "RECOGNIZER_LOAD_DEVICE")
        self._recognizer = ArcfaceRecognizer(session, recognition.mean, recognition.std)
        self._space = EmbeddingSpace(name, _digest(pack), self._recognizer.dimension, "cosine", THRESHOLD)

    @property
    def space(self) -> EmbeddingSpace:
        """As many numbers as the network gives, compared by cosine."""
        return self._space

    def detect(self, image: Image) -> list[DetectedFace]:
        """Every face in the picture, largest first."""
        faces = _faces(image, self._detector.detect(image))
        return sorted(faces, key=lambda face: -face.box.area)

    def embed(self, image: Image, faces: Sequence[DetectedFace]) -> list[Embedding]:
        """One embedding a face, in their order."""
        side = self._recognizer.side
        return self._recognizer.embed([aligned_crop(image, np.array(face.landmarks), side) for face in faces])

    def close(self) -> None:
        """Let go of the sessions."""
        del self._detector, self._recognizer


def _digest(pack: Pack) -> str:
    """Of what the numbers depend on: both files, their scaling and how faces are cut out; not of any path."""
    files = [_described(pack.detection), _described(pack.recognition)]
    return hashlib.sha256(json.dumps([_PREPROCESSING, *files]).encode()).hexdigest()


def _described(file: ModelFile) -> list[str | float]:
    return [file.digest, file.mean, file.std]


def _faces(image: Image, found: Detections) -> list[DetectedFace]:
    return [
        _face(image, *(part.tolist() for part in row))
        for row in zip(found.boxes, found.scores, found.landmarks, strict=True)
    ]


def _face(image: Image, sides: list[float], score: float, points: list[list[float]]) -> DetectedFace:
    height, width = image.shape[:2]
    left, top, right, bottom = sides
    box = Box(max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    landmarks = tuple((x, y) for x, y in points)
    return DetectedFace(box, score, landmarks, measure_quality(image, box, landmarks, score).score)
