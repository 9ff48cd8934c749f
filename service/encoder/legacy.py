"""The legacy encoder: a converted RetinaFace and any recognition model, with one of two preprocessings.

`aligned` turns faces onto the template of ArcFace. `padded-crop` cuts them out as the legacy recognizer did, so that
its embeddings stay comparable. The two are different embedding spaces.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

import numpy as np

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.contract import GPU_BATCHES, PROCESSOR_BATCHES, BatchShape, DetectedFace, Image
from service.encoder.networks.alignment import aligned_crop
from service.encoder.networks.arcface import ArcfaceRecognizer, batched_model, default_threshold
from service.encoder.networks.detections import faces_of
from service.encoder.networks.padded_crop import SIDE, croppable, padded_crop
from service.encoder.networks.retinaface import RetinafaceDetector
from service.encoder.networks.turning import with_upright_landmarks
from service.encoder.runtime.sessions import PROCESSOR, Device, open_session
from service.errors import InvalidModel
from service.models.legacy_folders import LegacyModels, RecognitionModel
from service.models.packs import load_onnx

Preprocessing = Literal["aligned", "padded-crop"]

PADDED_THRESHOLD = 0.3
"""Cosine of two padded crops from which the legacy recognizer took them for the same person."""

_DESCRIBED = "legacy: retinaface 0.5, nms 0.4, RGB"


class LegacyEncoder:
    """RetinaFace and a recognition model. Raises InvalidSettings for a missing device, InvalidModel for a bad file."""

    def __init__(
        self,
        name: str,
        models: LegacyModels,
        preprocessing: Preprocessing,
        detector_device: Device = PROCESSOR,
        recognizer_device: Device = PROCESSOR,
    ) -> None:
        detection, recognition = models.detection, models.recognition
        session = open_session(detection.path, detector_device)
        self._detector = RetinafaceDetector(session, detection.manifest)
        self._recognizer_device = recognizer_device
        self._recognizer = _recognizer(recognition, recognizer_device)
        self._preprocessing = preprocessing
        if preprocessing == "padded-crop" and self._recognizer.side != SIDE:
            raise InvalidModel(
                f"{recognition.path.name} expects {self._recognizer.side} pixels, but padded crops have {SIDE}"
            )
        dimension = self._recognizer.dimension
        threshold = default_threshold(dimension) if preprocessing == "aligned" else PADDED_THRESHOLD
        self._space = EmbeddingSpace(name, _digest(models, preprocessing), dimension, "cosine", threshold)

    @property
    def space(self) -> EmbeddingSpace:
        """As many numbers as the network returns, compared by cosine."""
        return self._space

    @property
    def detection_side(self) -> None:
        """All pixels, as in the legacy recognizer."""

    @property
    def crop_side(self) -> int:
        return self._recognizer.side

    @property
    def batching(self) -> BatchShape:
        return PROCESSOR_BATCHES if self._recognizer_device.is_processor else GPU_BATCHES

    def load(self) -> None:
        """Does nothing: the models are loaded when the encoder is made, so that a bad file shows at the start."""

    def detect(self, image: Image) -> list[DetectedFace]:
        """Every face, largest first. For padded crops only faces entirely inside the image, as in the legacy
        recognizer.
        """
        found = self._detector.detect(image)
        if self._preprocessing == "padded-crop":
            return faces_of(image, croppable(image, found))
        return faces_of(image, with_upright_landmarks(image, found, self._detector.detect))

    def inspect(self, image: Image, faces: Sequence[DetectedFace]) -> list[DetectedFace]:  # noqa: ARG002 - of the contract
        return list(faces)

    def align(self, image: Image, faces: Sequence[DetectedFace]) -> list[Image]:
        if self._preprocessing == "padded-crop":
            return [padded_crop(image, face.box) for face in faces]
        return [aligned_crop(image, np.array(face.landmarks), self._recognizer.side) for face in faces]

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        """One embedding per crop, in order, as the network returns it (not normalized)."""
        return self._recognizer.embed(crops)

    def close(self) -> None:
        del self._detector, self._recognizer


def _recognizer(found: RecognitionModel, device: Device) -> ArcfaceRecognizer:
    model = found.path if found.takes_batches else batched_model(load_onnx(found.path))
    session = open_session(model, device)
    return ArcfaceRecognizer(session, found.mean, found.std)


def _digest(models: LegacyModels, preprocessing: Preprocessing) -> str:
    """Digest of everything that the numbers depend on: both networks, their scaling and the cropping. No path is part
    of it.
    """
    detection, recognition = models.detection.manifest, models.recognition
    parts = [
        _DESCRIBED,
        preprocessing,
        detection.source_digest,
        detection.landmark_scale,
        recognition.digest,
        recognition.mean,
        recognition.std,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
