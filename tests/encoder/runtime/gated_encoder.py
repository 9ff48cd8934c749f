"""The fake encoder with a gate before detection and one before recognition, so that tests decide what runs when."""

import asyncio
import threading
from collections.abc import Callable, Sequence

from service.embedding import Embedding
from service.encoder.contract import BatchShape, DetectedFace, Image
from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.fake_pictures import people_pixels

HANG_SECONDS = 300
"""A test that waits longer than this hangs. No test passes or fails by a shorter time."""


class GatedEncoder(FakeEncoder):
    """Records its work. The gate before detection is closed at first, the gate before recognition is open."""

    def __init__(self, largest: int = 8, one_at_a_time: bool = False) -> None:
        super().__init__()
        self.detection_gate = threading.Event()
        self.recognition_gate = threading.Event()
        self.recognition_gate.set()
        self.shape = BatchShape(largest, one_at_a_time)
        self.arrived: list[int] = []
        """Heights of the images that reached the gate before detection."""
        self.detected: list[int] = []
        self.aligned: list[int] = []
        self.arrived_crops: list[Image] = []
        """Crops that reached the gate before recognition."""
        self.batches: list[int] = []
        self.broken_batch = 0
        """Number of the batch that fails with an error, counted from 1. 0: none."""
        self.threads: set[str] = set()

    @property
    def batching(self) -> BatchShape:
        return self.shape

    def detect(self, image: Image) -> list[DetectedFace]:
        self.arrived.append(image.shape[0])
        assert self.detection_gate.wait(HANG_SECONDS)
        self.detected.append(image.shape[0])
        self.threads.add(threading.current_thread().name)
        return super().detect(image)

    def align(self, image: Image, faces: Sequence[DetectedFace]) -> list[Image]:
        self.aligned.append(image.shape[0])
        return super().align(image, faces)

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        self.arrived_crops += crops
        assert self.recognition_gate.wait(HANG_SECONDS)
        self.batches.append(len(crops))
        if len(self.batches) == self.broken_batch:
            raise ValueError("the network is broken")
        return super().embed(crops)


def image_of(height: int, *names: str) -> Image:
    """Return an image of people. Tests tell images apart by their height."""
    return people_pixels(names or ("Ada",), (300 * max(1, len(names)), height))


async def begun(encoders: Encoders, images: int) -> None:
    """Wait until that many images run or wait for a thread."""
    await until(lambda: encoders.current_load().running + encoders.current_load().waiting >= images)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    while not condition():  # noqa: ASYNC110 - other threads make it true, and they cannot set an asyncio.Event
        await asyncio.sleep(0.005)
