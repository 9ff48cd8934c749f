"""The insightface encoder: the detection and recognition networks of a pack, run by ONNX Runtime.

Its results equal those of insightface.app.FaceAnalysis (a test compares them). Running the networks here gives control
over devices, threads and batches, and the Python package insightface is not needed.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.contract import GPU_BATCHES, PROCESSOR_BATCHES, BatchShape, DetectedFace, Image
from service.encoder.networks.age_gender import AttributesNetwork
from service.encoder.networks.alignment import aligned_crop
from service.encoder.networks.arcface import ArcfaceRecognizer, batched_model, default_threshold
from service.encoder.networks.detections import faces_of
from service.encoder.networks.liveness import LivenessNetwork
from service.encoder.networks.scrfd import ScrfdDetector
from service.encoder.runtime.sessions import PROCESSOR, Device, open_session
from service.models.packs import ModelFile, Pack, load_onnx

_PREPROCESSING = "insightface: scrfd 0.5, 5 landmarks, arcface template, RGB"


@dataclass(frozen=True)
class Extras:
    """Additional networks, if the operator asked for them."""

    liveness: LivenessNetwork | None = None
    attributes: AttributesNetwork | None = None


_NO_EXTRAS = Extras()


class InsightfaceEncoder:
    """SCRFD and an ArcFace-style network. Raises InvalidSettings for a missing device, InvalidModel for a bad file."""

    def __init__(
        self,
        name: str,
        pack: Pack,
        detector_device: Device = PROCESSOR,
        recognizer_device: Device = PROCESSOR,
        extras: Extras = _NO_EXTRAS,
    ) -> None:
        self._extras = extras
        detection, recognition = pack.detection, pack.recognition
        session = open_session(detection.path, detector_device)
        self._detector = ScrfdDetector(
            session, detection.mean, detection.std, is_square=not detector_device.is_processor
        )
        session = open_session(batched_model(load_onnx(recognition.path)), recognizer_device)
        self._detector_device, self._recognizer_device = detector_device, recognizer_device
        self._recognizer = ArcfaceRecognizer(session, recognition.mean, recognition.std)
        dimension = self._recognizer.dimension
        self._space = EmbeddingSpace(name, _digest(pack), dimension, "cosine", default_threshold(dimension))

    @property
    def space(self) -> EmbeddingSpace:
        """As many numbers as the network returns, compared by cosine."""
        return self._space

    @property
    def detection_side(self) -> int | None:
        """Twice the detector's input: downscaled to that, an image gives the same faces. The extra networks need all
        pixels.
        """
        return 2 * self._detector.largest_side if self._extras == _NO_EXTRAS else None

    @property
    def crop_side(self) -> int:
        return self._recognizer.side

    @property
    def batching(self) -> BatchShape:
        return PROCESSOR_BATCHES if self._recognizer_device.is_processor else GPU_BATCHES

    def load(self) -> None:
        """Run both networks once at their largest input, alone and in all threads at a time.

        The networks are loaded already. But their working memory grows with the inputs, over thousands of images; after
        this it stays nearly the same.
        """
        self._run_at_largest()
        devices = {self._detector_device, self._recognizer_device}
        threads = max(device.threads for device in devices)
        if threads == 1:
            return
        with contextlib.ExitStack() as busy, ThreadPoolExecutor(threads) as pool:
            for device in devices:
                busy.enter_context(device.runs.image())
                busy.enter_context(device.runs.image())  # two images in progress: every run gets one thread
            for ran in [pool.submit(self._run_at_largest) for _ in range(threads)]:
                ran.result()

    def detect(self, image: Image) -> list[DetectedFace]:
        return faces_of(image, self._detector.detect(image))

    def inspect(self, image: Image, faces: Sequence[DetectedFace]) -> list[DetectedFace]:
        return [self._inspected(image, face) for face in faces]

    def align(self, image: Image, faces: Sequence[DetectedFace]) -> list[Image]:
        """Each face on the template of the network."""
        side = self._recognizer.side
        return [aligned_crop(image, np.array(face.landmarks), side) for face in faces]

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        return self._recognizer.embed(crops)

    def close(self) -> None:
        del self._detector, self._recognizer, self._extras

    def _run_at_largest(self) -> None:
        side = self._detector.largest_side
        self._detector.detect(np.zeros((side, side, 3), dtype=np.uint8))
        crop = np.zeros((self._recognizer.side, self._recognizer.side, 3), dtype=np.uint8)
        self._recognizer.embed([crop] * self.batching.largest)

    def _inspected(self, image: Image, face: DetectedFace) -> DetectedFace:
        liveness, attributes = self._extras.liveness, self._extras.attributes
        return replace(
            face,
            liveness=liveness.judge(image, face) if liveness is not None else None,
            attributes=attributes.guess(image, face) if attributes is not None else None,
        )


def _digest(pack: Pack) -> str:
    """Digest of everything that the numbers depend on: both files, their scaling and the alignment. No path is part of
    it.
    """
    files = [_described(pack.detection), _described(pack.recognition)]
    return hashlib.sha256(json.dumps([_PREPROCESSING, *files]).encode()).hexdigest()


def _described(file: ModelFile) -> list[str | float]:
    return [file.digest, file.mean, file.std]
