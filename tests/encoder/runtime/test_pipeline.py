"""The pipeline of an image: cancellation, overload, downscaled images and measurements."""

import asyncio
import gc
import math
import re
import threading
import weakref
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import pytest

from service.embedding import Embedding
from service.encoder.contract import Box, DetectedFace, Image
from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.fake_pictures import draw_people, people_pixels
from service.encoder.runtime import pipeline
from service.encoder.runtime.backpressure import IMAGES_PER_THREAD
from service.errors import OutOfMemory, Overloaded, UnsupportedImageFormat
from service.telemetry import metrics_text
from tests.encoder.runtime.gated_encoder import GatedEncoder, begun, image_of, until
from tests.support.encoders import LIMITS, cosine


@pytest.fixture
def encoder() -> GatedEncoder:
    return GatedEncoder()


@pytest.fixture
def encoders(encoder: GatedEncoder) -> Iterator[Encoders]:
    """Encoders with two threads."""
    opened = Encoders([encoder], LIMITS, 200, threads=2)
    yield opened
    encoder.detection_gate.set()
    opened.close()


async def test_an_image_that_is_cancelled_while_it_waits_is_never_processed(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    space = encoders.default
    tasks = [asyncio.create_task(encoders.encode(space, image_of(200 + n))) for n in range(6)]
    await begun(encoders, 6)
    await until(lambda: encoders.current_load().running == 2)  # both threads are at the gate
    for task in tasks[2:]:
        task.cancel()
    await asyncio.gather(*tasks[2:], return_exceptions=True)
    assert encoders.current_load().waiting == 0
    encoder.detection_gate.set()
    await asyncio.gather(*tasks[:2])
    assert sorted(encoder.detected) == [200, 201]


async def test_an_image_that_is_cancelled_during_detection_skips_alignment_and_recognition(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    task = asyncio.create_task(encoders.encode(encoders.default, image_of(200)))
    await until(lambda: encoder.arrived == [200])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    encoder.detection_gate.set()
    assert len(await encoders.encode(encoders.default, image_of(300))) == 1
    await asyncio.to_thread(encoders.close)  # runs all work that was submitted
    assert sorted(encoder.detected) == [200, 300]
    assert encoder.aligned == [300]
    assert encoder.batches == [1]
    assert encoders.current_load().running == 0


async def test_a_request_encodes_its_image_in_the_slot_that_it_reserved(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    most = 2 * IMAGES_PER_THREAD
    with encoders.reserve_slot() as slot:
        slot.expires = math.inf  # test_backpressure.py tests the end of a reservation, on a clock of its own
        others = [asyncio.create_task(encoders.encode(encoders.default, image_of(200))) for _ in range(most - 1)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await encoders.encode(encoders.default, image_of(200))
        own = asyncio.create_task(encoders.with_slot(slot).encode(encoders.default, image_of(200)))
        await asyncio.sleep(0)
        assert not own.done()
        with pytest.raises(Overloaded):
            await encoders.with_slot(slot).encode(encoders.default, image_of(200))
    encoder.detection_gate.set()
    await asyncio.gather(own, *others, return_exceptions=True)


async def test_too_many_images_are_refused_and_all_others_are_answered(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    most = 2 * IMAGES_PER_THREAD
    tasks = [asyncio.create_task(encoders.encode(encoders.default, image_of(200))) for _ in range(most + 5)]
    await begun(encoders, most)
    refused = await asyncio.gather(*tasks[most:], return_exceptions=True)
    assert all(isinstance(answer, Overloaded) for answer in refused)
    with pytest.raises(Overloaded):
        encoders.reserve_slot()
    with pytest.raises(Overloaded):
        await encoders.decode(draw_people(["Ada"]))
    encoder.detection_gate.set()
    answered = await asyncio.gather(*tasks[:most], return_exceptions=True)
    assert all(isinstance(answer, Overloaded) or (isinstance(answer, list) and len(answer) == 1) for answer in answered)
    assert sum(not isinstance(answer, Overloaded) for answer in answered) >= 2


async def test_an_error_reaches_the_caller_and_leaves_nothing_in_the_queue(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    encoder.detection_gate.set()
    encoder.broken_batch = 1
    with pytest.raises(ValueError, match="the network is broken"):
        await encoders.encode(encoders.default, image_of(200))
    assert len(await encoders.encode(encoders.default, image_of(200))) == 1
    with pytest.raises(UnsupportedImageFormat):
        await encoders.encode(encoders.default, b"text")
    assert (encoders.current_load().running, encoders.current_load().waiting) == (0, 0)


async def test_models_never_run_on_the_event_loop(encoder: GatedEncoder, encoders: Encoders) -> None:
    encoder.detection_gate.set()
    await asyncio.gather(*(encoders.encode(encoders.default, image_of(200)) for _ in range(8)))
    assert threading.current_thread().name not in encoder.threads
    assert len(encoder.threads) <= 2


def test_opencv_starts_no_threads_of_its_own() -> None:
    """The threads of the pipeline share the processors. Threads of OpenCV beside them would be too many."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        Encoders([FakeEncoder()], LIMITS, 200, threads=2).close()
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


class ReducingEncoder(FakeEncoder):
    """Detects in images whose longer side is below 600 pixels. Records the images that crops are cut out of."""

    def __init__(self, crop_side: int) -> None:
        super().__init__()
        self._crop_side = crop_side
        self.detected: list[tuple[int, ...]] = []
        self.aligned: list[tuple[tuple[int, ...], list[Box]]] = []

    @property
    def detection_side(self) -> int | None:
        return 300

    @property
    def crop_side(self) -> int:
        return self._crop_side

    def detect(self, image: Image) -> list[DetectedFace]:
        self.detected.append(image.shape[:2])
        return super().detect(image)

    def align(self, image: Image, faces: Sequence[DetectedFace]) -> list[Image]:
        self.aligned.append((image.shape[:2], [face.box for face in faces]))
        return super().align(image, faces)


LARGE = people_pixels(["Ada"], (1600, 1200))
"""Detection gets it as 400 x 300 pixels. The face has 900 pixels on a side, and 225 of them in the reduced image."""


async def test_boxes_are_in_pixels_of_the_whole_image_if_detection_gets_a_reduced_one() -> None:
    encoder = ReducingEncoder(crop_side=112)
    encoders = Encoders([encoder], LIMITS, 200, threads=1)
    (expected,) = FakeEncoder().detect(LARGE)
    (detected,) = await encoders.detect(encoders.default, LARGE)
    (encoded,) = await encoders.encode(encoders.default, LARGE)
    assert encoder.detected == [(300, 400)] * 2
    for face in (detected, encoded.face):
        assert np.allclose(corners(face.box), corners(expected.box), atol=8)
        assert np.allclose(face.landmarks, expected.landmarks, atol=8)
    encoders.close()


@pytest.mark.parametrize(("crop_side", "cut_out_of"), [(225, (300, 400)), (240, (1200, 1600))])
async def test_a_face_that_is_smaller_than_its_crop_in_the_reduced_image_is_cut_out_of_the_whole_image(
    crop_side: int, cut_out_of: tuple[int, int]
) -> None:
    encoder = ReducingEncoder(crop_side)
    encoders = Encoders([encoder], LIMITS, 200, threads=1)
    (face,) = await encoders.encode(encoders.default, LARGE)
    ((shape, (box,)),) = encoder.aligned
    assert shape == cut_out_of
    (expected,) = FakeEncoder().detect(LARGE)
    assert np.allclose(np.array(corners(box)) * (1200 / shape[0]), corners(expected.box), atol=8)
    (alone,) = FakeEncoder().embed(FakeEncoder().align(LARGE, [expected]))
    assert cosine(face.embedding, alone) > 0.9
    encoders.close()


def corners(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


async def test_images_faces_and_seconds_of_each_stage_are_counted(encoder: GatedEncoder, encoders: Encoders) -> None:
    encoder.detection_gate.set()
    await encoders.encode(encoders.default, draw_people(["a", "b", "c"]))
    await encoders.encode(encoders.default, draw_people(["a"]))
    stages = encoders.stages()
    assert (stages.images, stages.faces) == (2, 4)
    assert min(stages.decode, stages.detect, stages.align, stages.embed) > 0


class SlowlyEmbeddingEncoder(FakeEncoder):
    """Embeds each crop 200 times, so that recognition takes most of the time of an image."""

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        for _ in range(199):
            super().embed(crops)
        return super().embed(crops)


async def test_the_thread_seconds_of_an_image_include_its_recognition() -> None:
    """Retry-After is computed from them. The test adds up the measured stages, however long they took."""
    encoders = Encoders([SlowlyEmbeddingEncoder()], LIMITS, 200, threads=1)
    first_guess = encoders.current_load().image_seconds
    await encoders.encode(encoders.default, draw_people(["Ada", "Grace", "Linus"]))
    stages = encoders.stages()
    smoothing = 0.1
    of_the_image = first_guess + (encoders.current_load().image_seconds - first_guess) / smoothing
    assert of_the_image >= (stages.decode + stages.detect + stages.align + stages.embed) * 0.999999
    encoders.close()


async def test_closing_finishes_the_images_in_progress(encoder: GatedEncoder, encoders: Encoders) -> None:
    task = asyncio.create_task(encoders.encode(encoders.default, image_of(200)))
    await until(lambda: encoder.arrived == [200])
    closing = asyncio.create_task(asyncio.to_thread(encoders.close))
    encoder.detection_gate.set()
    await closing
    assert len(await task) == 1
    with pytest.raises(RuntimeError, match="closed"):
        await encoders.detect(encoders.default, np.zeros((10, 10, 3), dtype=np.uint8))


async def test_a_burst_is_accepted_up_to_the_limit_and_every_request_is_answered(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    """Answers stay fast because few images may wait. The test counts them, since time depends on the machine."""
    outcomes: list[str] = []

    async def request() -> None:
        try:
            await encoders.detect(encoders.default, image_of(200))
        except Overloaded:
            outcomes.append("refused")
        else:
            outcomes.append("answered")

    allowed = 2 * IMAGES_PER_THREAD
    before = {name: metric(f"images_{name}") for name in ("running", "waiting", "refused_total")}

    def change(name: str) -> float:
        return metric(f"images_{name}") - before[name]

    requests = [asyncio.create_task(request()) for _ in range(500)]
    await until(lambda: len(outcomes) == 500 - allowed)  # the others cannot end before the gate opens
    assert set(outcomes) == {"refused"}
    load = encoders.current_load()
    assert (load.running + load.waiting, load.refused) == (allowed, 500 - allowed)
    assert (change("running"), change("waiting")) == (load.running, load.waiting)
    encoder.detection_gate.set()
    await asyncio.gather(*requests)
    assert len(outcomes) == 500
    assert 2 <= outcomes.count("answered") <= allowed
    load = encoders.current_load()
    assert (load.running, load.waiting) == (0, 0)
    assert (change("running"), change("waiting")) == (0, 0)
    assert change("refused_total") == outcomes.count("refused")


def metric(name: str) -> float:
    """The value of a metric of this process."""
    found = re.search(rf"(?m)^face_identity_{name} (\S+)$", metrics_text().decode())
    assert found is not None, name
    return float(found[1])


async def test_an_overload_is_over_after_two_seconds_without_a_refusal(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    image = image_of(200)
    requests = [encoders.detect(encoders.default, image) for _ in range(2 * IMAGES_PER_THREAD + 1)]
    overload = asyncio.gather(*requests, return_exceptions=True)
    await until(lambda: encoders.current_load().refused > 0)
    encoder.detection_gate.set()
    await overload
    await asyncio.sleep(2.1)  # a slower machine sleeps longer, which changes nothing
    refused = encoders.current_load().refused
    await asyncio.gather(*(encoders.detect(encoders.default, image) for _ in range(16)))
    assert encoders.current_load().refused == refused


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"),
        RuntimeError("can't start new thread"),
    ],
    ids=repr,
)
async def test_a_lack_of_memory_is_a_503_and_the_next_image_succeeds(
    encoder: GatedEncoder, encoders: Encoders, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    encoder.detection_gate.set()

    def fail(_: Image) -> list[DetectedFace]:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(encoder, "detect", fail)
        with pytest.raises(OutOfMemory):
            await encoders.detect(encoder.space, image_of(300))
    encoders.check_memory()  # there is memory again
    assert await encoders.detect(encoder.space, image_of(300))


async def test_the_pixels_of_an_image_that_failed_for_lack_of_memory_are_freed(
    encoder: GatedEncoder, encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error and its frames may refer to each other, and the collector of a server runs seldom."""
    pixels: list[weakref.ref[Image]] = []

    def fail(image: Image) -> list[DetectedFace]:
        pixels.append(weakref.ref(image))
        try:
            raise MemoryError
        except MemoryError as error:
            kept = error  # the frame refers to the error, whose traceback refers to the frame
            raise kept from None

    monkeypatch.setattr(encoder, "detect", fail)
    gc.disable()
    try:
        with pytest.raises(OutOfMemory):
            await encoders.detect(encoder.space, draw_people(["ada"]))
        assert pixels[0]() is None
    finally:
        gc.enable()


async def test_readiness_tells_that_memory_is_still_missing(
    encoder: GatedEncoder, encoders: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder.detection_gate.set()
    encoders.check_memory()
    monkeypatch.setattr(pipeline, "has_memory_for", lambda _: False)
    encoders.check_memory()  # nothing has failed, so nobody asks for the memory

    def fail(_: Image) -> list[DetectedFace]:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(encoder, "detect", fail)
        with pytest.raises(OutOfMemory):
            await encoders.detect(encoder.space, image_of(300))
        with pytest.raises(OutOfMemory, match="still missing"):
            encoders.check_memory()
    await encoders.detect(encoder.space, image_of(300))
    encoders.check_memory()
