"""Images on their way through the threads: order, batches, cancellation, overload, counts."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from service.embedding import Embedding
from service.encoder.contract import BatchShape, DetectedFace, Image
from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.fake_pictures import draw_people, people_pixels
from service.encoder.runtime.backpressure import PICTURES_A_THREAD
from service.encoder.runtime.threads import Priority, PriorityThreads
from service.errors import Overloaded, UnsupportedImageFormat
from tests.support.encoders import LIMITS, cosine


class GatedEncoder(FakeEncoder):
    """The fake encoder behind a gate; it records its work."""

    def __init__(self, largest: int = 8, one_at_a_time: bool = False) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.shape = BatchShape(largest, one_at_a_time)
        self.detected: list[int] = []
        self.batches: list[int] = []
        self.threads: set[str] = set()

    @property
    def batching(self) -> BatchShape:
        return self.shape

    def detect(self, image: Image) -> list[DetectedFace]:
        assert self.gate.wait(20)
        self.detected.append(image.shape[0])
        self.threads.add(threading.current_thread().name)
        return super().detect(image)

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        self.batches.append(len(crops))
        return super().embed(crops)


@pytest.fixture
def encoder() -> GatedEncoder:
    return GatedEncoder()


@pytest.fixture
def encoders(encoder: GatedEncoder) -> Iterator[Encoders]:
    """Encoders with two threads."""
    opened = Encoders([encoder], LIMITS, 200, threads=2)
    yield opened
    encoder.gate.set()
    opened.close()


def picture(height: int, *names: str) -> Image:
    """Return an image; images are distinguished by their height."""
    return people_pixels(names or ("Ada",), (300 * max(1, len(names)), height))


async def begun(encoders: Encoders, tasks: int) -> None:
    """Wait until that number of images are in the threads or wait for one."""
    await until(lambda: encoders.current_load().running + encoders.current_load().waiting >= tasks)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - threads change it, which no asyncio.Event tells of
        await asyncio.sleep(0.005)


async def test_interactive_pictures_overtake_bulk_ones(encoder: GatedEncoder, encoders: Encoders) -> None:
    space = encoders.default
    first = [asyncio.create_task(encoders.detect(space, picture(200 + n))) for n in range(2)]
    await begun(encoders, 2)
    bulk = [asyncio.create_task(encoders.detect(space, picture(300 + n), bulk=True)) for n in range(3)]
    await begun(encoders, 5)
    urgent = [asyncio.create_task(encoders.detect(space, picture(400 + n))) for n in range(3)]
    await begun(encoders, 8)
    encoder.gate.set()
    await asyncio.gather(*first, *bulk, *urgent)
    order = [height // 100 for height in encoder.detected if height >= 300]
    assert order[:2] == [4, 4]  # the third may be recorded after a bulk image that the other thread began later
    assert order[-2:] == [3, 3]


async def test_bulk_work_gets_on_while_others_keep_coming() -> None:
    workers = PriorityThreads(1)
    done: list[str] = []
    blocked = threading.Event()
    workers.submit(lambda: assert_true(blocked.wait(20)), Priority.INTERACTIVE)
    workers.submit(lambda: done.append("bulk"), Priority.BULK)
    for _ in range(60):
        workers.submit(lambda: done.append("interactive"), Priority.INTERACTIVE)
    blocked.set()
    workers.close()
    assert 10 < done.index("bulk") < 20
    assert len(done) == 61


def assert_true(value: bool) -> None:
    assert value


async def test_a_cancelled_request_that_waits_is_never_worked_on(encoder: GatedEncoder, encoders: Encoders) -> None:
    space = encoders.default
    tasks = [asyncio.create_task(encoders.encode(space, picture(200 + n))) for n in range(6)]
    await begun(encoders, 6)
    await until(lambda: encoders.current_load().running == 2)  # both threads are at the gate
    for task in tasks[2:]:
        task.cancel()
    await asyncio.gather(*tasks[2:], return_exceptions=True)
    assert encoders.current_load().waiting == 0
    encoder.gate.set()
    await asyncio.gather(*tasks[:2])
    assert sorted(encoder.detected) == [200, 201]


async def test_a_request_cancelled_in_the_detector_costs_no_recognition(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    task = asyncio.create_task(encoders.encode(encoders.default, picture(200)))
    await begun(encoders, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    encoder.gate.set()
    assert len(await encoders.encode(encoders.default, picture(300))) == 1
    assert encoder.batches == [1]
    assert encoders.current_load().running == 0


async def test_a_request_encodes_its_image_in_the_slot_that_it_reserved(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    most = 2 * PICTURES_A_THREAD
    with encoders.reserve_slot() as slot:
        others = [asyncio.create_task(encoders.encode(encoders.default, picture(200))) for _ in range(most - 1)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await encoders.encode(encoders.default, picture(200))
        own = asyncio.create_task(encoders.with_slot(slot).encode(encoders.default, picture(200)))
        await asyncio.sleep(0)
        assert not own.done()
        with pytest.raises(Overloaded):
            await encoders.with_slot(slot).encode(encoders.default, picture(200))
    encoder.gate.set()
    await asyncio.gather(own, *others, return_exceptions=True)


async def test_too_many_pictures_are_refused_and_all_others_answered(encoder: GatedEncoder, encoders: Encoders) -> None:
    most = 2 * PICTURES_A_THREAD
    tasks = [asyncio.create_task(encoders.encode(encoders.default, picture(200))) for _ in range(most + 5)]
    await begun(encoders, most)
    encoders_after = await asyncio.gather(*tasks[most:], return_exceptions=True)
    assert all(isinstance(refused, Overloaded) for refused in encoders_after)
    with pytest.raises(Overloaded):
        encoders.reserve_slot()
    with pytest.raises(Overloaded):
        await encoders.decode(draw_people(["Ada"]))
    encoder.gate.set()
    answered = await asyncio.gather(*tasks[:most], return_exceptions=True)
    assert all(isinstance(answer, Overloaded) or (isinstance(answer, list) and len(answer) == 1) for answer in answered)
    assert sum(not isinstance(answer, Overloaded) for answer in answered) >= 2


async def test_faces_of_several_pictures_share_a_batch() -> None:
    encoder = GatedEncoder(largest=16, one_at_a_time=True)
    release = threading.Event()
    original = encoder.embed

    def slow(crops: Sequence[Image]) -> list[Embedding]:
        assert release.wait(20)
        return original(crops)

    encoder.embed = slow  # type: ignore[method-assign]  # the first run is held up so that others gather behind it
    encoder.gate.set()
    encoders = Encoders([encoder], LIMITS, 200, threads=4)
    names = [[f"person {number}", f"other {number}"] for number in range(6)]
    tasks = [asyncio.create_task(encoders.encode(encoders.default, picture(220, *pair))) for pair in names]
    await until(lambda: len(encoder.detected) == 6)
    release.set()
    found = await asyncio.gather(*tasks)
    assert sum(encoder.batches) == 12
    assert max(encoder.batches) > 2
    assert len(encoder.batches) < 6
    for pair, faces in zip(names, found, strict=True):
        for name, face in zip(pair, faces, strict=True):
            image = picture(220, name)
            (alone,) = FakeEncoder().embed(FakeEncoder().align(image, FakeEncoder().detect(image)))
            assert cosine(alone, face.embedding) > 0.9
    encoders.close()


async def test_more_faces_than_a_batch_takes_are_all_embedded() -> None:
    encoder = GatedEncoder(largest=3)
    encoder.gate.set()
    encoders = Encoders([encoder], LIMITS, 200, threads=2)
    names = [f"person {number}" for number in range(11)]
    faces = await encoders.encode(encoders.default, people_pixels(names, (1600, 200)))
    assert len(faces) == 11
    assert sorted(encoder.batches) == [2, 3, 3, 3]
    similarities = [cosine(one.embedding, other.embedding) for one in faces for other in faces if one is not other]
    assert max(similarities) < 0.6
    encoders.close()


async def test_an_error_of_the_network_reaches_whoever_waits_and_nobody_else(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    encoder.gate.set()
    working = encoder.embed

    def broken(crops: Sequence[Image]) -> list[Embedding]:
        raise ValueError("broken")

    encoder.embed = broken  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="broken"):
        await encoders.encode(encoders.default, picture(200))
    encoder.embed = working  # type: ignore[method-assign]
    assert len(await encoders.encode(encoders.default, picture(200))) == 1
    with pytest.raises(UnsupportedImageFormat):
        await encoders.encode(encoders.default, b"text")
    assert (encoders.current_load().running, encoders.current_load().waiting) == (0, 0)


async def test_models_never_work_on_the_event_loop(encoder: GatedEncoder, encoders: Encoders) -> None:
    encoder.gate.set()
    await asyncio.gather(*(encoders.encode(encoders.default, picture(200)) for _ in range(8)))
    assert threading.current_thread().name not in encoder.threads
    assert len(encoder.threads) <= 2


async def test_what_was_done_is_counted_by_stage(encoder: GatedEncoder, encoders: Encoders) -> None:
    encoder.gate.set()
    await encoders.encode(encoders.default, draw_people(["a", "b", "c"]))
    await encoders.encode(encoders.default, draw_people(["a"]))
    stages = encoders.stages()
    assert (stages.pictures, stages.faces) == (2, 4)
    assert min(stages.decode, stages.detect, stages.align, stages.embed) > 0


async def test_closing_finishes_what_was_begun() -> None:
    encoders = Encoders([FakeEncoder()], LIMITS, 200, threads=1)
    task = asyncio.create_task(encoders.encode(encoders.default, picture(200)))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(encoders.close)
    assert len(await task) == 1
    with pytest.raises(RuntimeError, match="closed"):
        await encoders.detect(encoders.default, np.zeros((10, 10, 3), dtype=np.uint8))


async def test_of_too_many_pictures_only_as_many_are_accepted_as_may_wait_and_none_is_lost(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    """Answers stay fast because few images may wait. The test counts them, since time depends on the machine."""
    outcomes: list[str] = []

    async def request() -> None:
        try:
            await encoders.detect(encoders.default, picture(200))
        except Overloaded:
            outcomes.append("refused")
        else:
            outcomes.append("answered")

    allowed = 2 * PICTURES_A_THREAD
    requests = [asyncio.create_task(request()) for _ in range(500)]
    await until(lambda: len(outcomes) == 500 - allowed)  # the others cannot end before the gate opens
    assert set(outcomes) == {"refused"}
    load = encoders.current_load()
    assert (load.running + load.waiting, load.refused) == (allowed, 500 - allowed)
    encoder.gate.set()
    await asyncio.gather(*requests)
    assert len(outcomes) == 500
    assert 2 <= outcomes.count("answered") <= allowed
    load = encoders.current_load()
    assert (load.running, load.waiting) == (0, 0)


async def test_an_overload_is_over_after_two_seconds_without_a_refusal(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    image = picture(200)
    requests = [encoders.detect(encoders.default, image) for _ in range(2 * PICTURES_A_THREAD + 1)]
    overload = asyncio.gather(*requests, return_exceptions=True)
    await until(lambda: encoders.current_load().refused > 0)
    encoder.gate.set()
    await overload
    await asyncio.sleep(2.1)  # a slower machine sleeps longer, which changes nothing
    refused = encoders.current_load().refused
    await asyncio.gather(*(encoders.detect(encoders.default, image) for _ in range(16)))
    assert encoders.current_load().refused == refused
