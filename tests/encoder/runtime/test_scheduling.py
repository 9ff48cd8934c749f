"""Scheduling: urgent work runs first, and faces of several images are embedded in one batch."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from service.embedding import Embedding
from service.encoder.contract import BatchShape, DetectedFace, Image
from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.fake_pictures import people_pixels
from service.encoder.runtime.backpressure import IMAGES_PER_THREAD
from service.encoder.runtime.scheduling import Priority, PriorityThreads
from service.errors import Overloaded
from service.turns import act_for
from tests.encoder.runtime.gated_encoder import HANG_SECONDS, GatedEncoder, begun, image_of, until
from tests.support.encoders import LIMITS, cosine


@pytest.fixture
def encoder() -> GatedEncoder:
    """An encoder that runs one batch at a time, as on a GPU."""
    return GatedEncoder(largest=16, one_at_a_time=True)


@pytest.fixture
def encoders(encoder: GatedEncoder) -> Iterator[Encoders]:
    """Encoders with two threads."""
    opened = Encoders([encoder], LIMITS, 200, threads=2)
    yield opened
    encoder.detection_gate.set()
    encoder.recognition_gate.set()
    opened.close()


async def test_interactive_images_overtake_bulk_images(encoder: GatedEncoder, encoders: Encoders) -> None:
    space = encoders.default
    first = [asyncio.create_task(encoders.detect(space, image_of(200 + n))) for n in range(2)]
    await begun(encoders, 2)
    bulk = [asyncio.create_task(encoders.detect(space, image_of(300 + n), bulk=True)) for n in range(3)]
    await begun(encoders, 5)
    urgent = [asyncio.create_task(encoders.detect(space, image_of(400 + n))) for n in range(3)]
    await begun(encoders, 8)
    encoder.detection_gate.set()
    await asyncio.gather(*first, *bulk, *urgent)
    order = [height // 100 for height in encoder.detected if height >= 300]
    assert order[:2] == [4, 4]  # the third may be recorded after a bulk image that the other thread began later
    assert order[-2:] == [3, 3]


async def test_bulk_work_gets_a_share_while_interactive_work_keeps_waiting() -> None:
    threads = PriorityThreads(1)
    done: list[str] = []
    gate = threading.Event()
    threads.submit(lambda: assert_true(gate.wait(HANG_SECONDS)), Priority.INTERACTIVE)
    threads.submit(lambda: done.append("bulk"), Priority.BULK)
    for _ in range(60):
        threads.submit(lambda: done.append("interactive"), Priority.INTERACTIVE)
    gate.set()
    threads.close()
    assert 10 < done.index("bulk") < 20
    assert len(done) == 61


def test_closing_waits_for_the_work_that_running_work_submits() -> None:
    """An image that is in detection when the encoders close still submits its faces to the recognition network."""
    threads = PriorityThreads(2)
    gate, done = threading.Event(), threading.Event()

    def detection() -> None:
        assert gate.wait(HANG_SECONDS)
        threads.submit(done.set, Priority.FINISHING)

    threads.submit(detection, Priority.INTERACTIVE)
    closing = threading.Thread(target=threads.close)
    closing.start()
    while accepts_work(threads):
        time.sleep(0.005)
    gate.set()
    closing.join(HANG_SECONDS)
    assert done.is_set()


def accepts_work(threads: PriorityThreads) -> bool:
    """Return whether the threads accept new work."""
    try:
        threads.submit(lambda: None, Priority.BULK)
    except RuntimeError:
        return False
    return True


def assert_true(value: bool) -> None:
    assert value


async def test_faces_of_several_images_share_a_batch() -> None:
    encoder = GatedEncoder(largest=16, one_at_a_time=True)
    encoder.recognition_gate.clear()  # the first batch stays in the network while other faces gather behind it
    encoder.detection_gate.set()
    encoders = Encoders([encoder], LIMITS, 200, threads=4)
    names = [[f"person {number}", f"other {number}"] for number in range(6)]
    tasks = [asyncio.create_task(encoders.encode(encoders.default, image_of(220, *pair))) for pair in names]
    await until(lambda: len(encoder.detected) == 6)
    encoder.recognition_gate.set()
    results = await asyncio.gather(*tasks)
    assert sum(encoder.batches) == 12
    assert max(encoder.batches) > 2
    assert len(encoder.batches) < 6
    for pair, faces in zip(names, results, strict=True):
        for name, face in zip(pair, faces, strict=True):
            assert cosine(embedding_of(name), face.embedding) > 0.9
    encoders.close()


async def test_all_faces_are_embedded_if_they_are_more_than_a_batch_takes() -> None:
    encoder = GatedEncoder(largest=3)
    encoder.detection_gate.set()
    encoders = Encoders([encoder], LIMITS, 200, threads=2)
    names = [f"person {number}" for number in range(11)]
    faces = await encoders.encode(encoders.default, people_pixels(names, (1600, 200)))
    assert len(faces) == 11
    assert sorted(encoder.batches) == [2, 3, 3, 3]
    similarities = [cosine(face.embedding, other.embedding) for face in faces for other in faces if face is not other]
    assert max(similarities) < 0.6
    encoders.close()


class FirstFaceLastEncoder(FakeEncoder):
    """Embeds each face alone. The first face of the image is finished after the second one."""

    def __init__(self) -> None:
        super().__init__()
        self.crops: list[Image] = []
        self.second_is_finished = threading.Event()

    @property
    def batching(self) -> BatchShape:
        return BatchShape(largest=1, one_at_a_time=False)

    def align(self, image: Image, faces: Sequence[DetectedFace]) -> list[Image]:
        self.crops = super().align(image, faces)
        return self.crops

    def embed(self, crops: Sequence[Image]) -> list[Embedding]:
        (number,) = [number for number, crop in enumerate(self.crops) if crop is crops[0]]
        if number == 0:
            assert self.second_is_finished.wait(HANG_SECONDS)
        if number == 2:  # the other thread has the first face, so this thread finished the second one before
            self.second_is_finished.set()
        return super().embed(crops)


async def test_each_face_gets_its_own_embedding_if_a_later_face_is_finished_first() -> None:
    encoders = Encoders([FirstFaceLastEncoder()], LIMITS, 200, threads=2)
    names = ["Ada", "Grace", "Linus"]
    faces = await encoders.encode(encoders.default, image_of(220, *names))
    for name, face in zip(names, faces, strict=True):
        assert cosine(embedding_of(name), face.embedding) > 0.9
    encoders.close()


def embedding_of(name: str) -> Embedding:
    """Return the embedding of a person that is alone in an image."""
    encoder, image = FakeEncoder(), image_of(220, name)
    (embedding,) = encoder.embed(encoder.align(image, encoder.detect(image)))
    return embedding


async def test_crops_of_a_cancelled_request_are_not_embedded(encoder: GatedEncoder, encoders: Encoders) -> None:
    encoder.detection_gate.set()
    encoder.recognition_gate.clear()
    running = asyncio.create_task(encoders.encode(encoders.default, image_of(200)))
    await until(lambda: len(encoder.arrived_crops) == 1)
    cancelled = asyncio.create_task(encoders.encode(encoders.default, image_of(300)))
    await until(lambda: encoder.aligned == [200, 300])
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    encoder.recognition_gate.set()
    await running
    await asyncio.to_thread(encoders.close)  # runs all work that was submitted
    assert encoder.batches == [1]


async def test_an_error_of_the_network_reaches_every_request_of_the_batch_and_no_other(
    encoder: GatedEncoder, encoders: Encoders
) -> None:
    encoder.detection_gate.set()
    encoder.recognition_gate.clear()
    before = asyncio.create_task(encoders.encode(encoders.default, image_of(200)))
    await until(lambda: len(encoder.arrived_crops) == 1)
    encoder.detection_gate.clear()
    batch = [asyncio.create_task(encoders.encode(encoders.default, image_of(300 + n, "Ada", "Eve"))) for n in range(2)]
    await until(lambda: len(encoder.arrived) == 2)
    last = asyncio.create_task(encoders.detect(encoders.default, image_of(400)))
    encoder.detection_gate.set()
    await last  # one thread detects all images in order, so the crops of the batch wait for the network now
    encoder.broken_batch = 2
    encoder.recognition_gate.set()
    async with asyncio.timeout(HANG_SECONDS):
        answers = await asyncio.gather(*batch, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["the network is broken"] * 2
    assert len(await before) == 1
    assert len(await encoders.encode(encoders.default, image_of(200))) == 1
    assert (encoders.current_load().running, encoders.current_load().waiting) == (0, 0)


async def test_images_of_tenants_take_turns(encoder: GatedEncoder, encoders: Encoders) -> None:
    first = [asyncio.create_task(encoders.detect(encoders.default, image_of(200))) for _ in range(2)]
    await begun(encoders, 2)
    busy = [asyncio.create_task(of_tenant(1, encoders, image_of(300))) for _ in range(10)]
    await begun(encoders, 12)
    quiet = asyncio.create_task(of_tenant(2, encoders, image_of(400)))
    await begun(encoders, 13)
    encoder.detection_gate.set()
    await asyncio.gather(*first, *busy, quiet)
    order = [height for height in encoder.detected if height >= 300]
    assert order.index(400) <= 3  # two threads, and one image of each tenant in turn


async def test_an_image_that_is_pushed_out_is_refused_at_once(encoder: GatedEncoder, encoders: Encoders) -> None:
    busy = [asyncio.create_task(of_tenant(1, encoders, image_of(300))) for _ in range(2 * IMAGES_PER_THREAD)]
    await begun(encoders, 2 * IMAGES_PER_THREAD)
    quiet = asyncio.create_task(of_tenant(2, encoders, image_of(400)))
    with pytest.raises(Overloaded):
        await busy[-1]  # the gate is still closed, so no thread has come to it
    encoder.detection_gate.set()
    await quiet
    await asyncio.gather(*busy, return_exceptions=True)
    assert encoders.current_load().running == encoders.current_load().waiting == 0


async def test_faces_of_tenants_take_turns_in_the_batches() -> None:
    encoder = GatedEncoder(largest=4, one_at_a_time=True)
    encoder.detection_gate.set()
    encoder.recognition_gate.clear()
    encoders = Encoders([encoder], LIMITS, 200, threads=3)
    names = [f"person {number}" for number in range(12)]
    first = asyncio.create_task(encoders.encode(encoders.default, image_of(200)))
    await until(lambda: len(encoder.arrived_crops) == 1)
    busy = asyncio.create_task(of_tenant(1, encoders, image_of(300, *names), embeds=True))
    await until(lambda: 300 in encoder.aligned)
    quiet = asyncio.create_task(of_tenant(2, encoders, image_of(400), embeds=True))
    await until(lambda: 400 in encoder.aligned)
    order: list[str] = []
    busy.add_done_callback(lambda _: order.append("busy"))
    quiet.add_done_callback(lambda _: order.append("quiet"))
    encoder.recognition_gate.set()
    await asyncio.gather(first, busy, quiet)
    encoders.close()
    assert order == ["quiet", "busy"]


async def of_tenant(tenant: int, encoders: Encoders, image: Image, *, embeds: bool = False) -> None:
    """Detect or embed the faces of an image on behalf of a tenant."""
    act_for(tenant)
    await (encoders.encode if embeds else encoders.detect)(encoders.default, image)
