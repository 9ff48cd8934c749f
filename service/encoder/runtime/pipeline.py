"""The pipeline of an image: one thread decodes, detects and aligns; then its faces are embedded in a shared batch.

Nothing runs on the event loop. If the caller is canceled, the remaining steps are skipped. The seconds of each stage
are added up, for metrics and benchmarks.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args

import cv2

from service.embedding import Embedding
from service.encoder.contract import DetectedFace, EncodedFace, Encoder, Image
from service.encoder.images.decode import ImageLimits
from service.encoder.images.downscale import ReducedImage, SourceImage, enlarged
from service.encoder.runtime.backpressure import BackPressure, QueueEntry, QueueState, Reservation
from service.encoder.runtime.memory import has_memory_for, is_lack_of_memory, release_memory
from service.encoder.runtime.pixel_budget import PixelBudget, PixelShare
from service.encoder.runtime.processors import RunCounter
from service.encoder.runtime.scheduling import Batching, ImageEmbeddings, Priority, PriorityThreads
from service.errors import OutOfMemory, Overloaded
from service.telemetry import FACES_ENCODED, IMAGES_ENCODED, STAGE_SECONDS
from service.turns import acting_tenant

S = TypeVar("S")
T = TypeVar("T")
Stage = Literal["decode", "detect", "align", "embed"]
Step = Callable[[QueueEntry, PixelShare], Future[T]]
"""Runs in a thread. The share of pixels ends with it."""
_STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class StageSeconds:
    """Images and faces since the start, and the thread seconds of each stage."""

    images: int = 0
    faces: int = 0
    decode: float = 0.0
    detect: float = 0.0
    align: float = 0.0
    embed: float = 0.0


class _Detected(NamedTuple):
    """An image, its copy for detection, and the faces in pixels of the copy."""

    image: SourceImage
    reduced: ReducedImage
    faces: list[DetectedFace]


class _CroppedFaces(NamedTuple):
    """Faces in pixels of the full image, and their crops for the recognition model."""

    faces: list[DetectedFace]
    crops: list[Image]


class Pipeline:
    """Threads, back-pressure and batches, shared by all encoders of a process."""

    def __init__(
        self, encoders: Sequence[Encoder], limits: ImageLimits, threads: int, runs: RunCounter, budget_pixels: int
    ) -> None:
        cv2.setNumThreads(1)  # OpenCV uses one thread: the threads of this pipeline divide the processors among them
        self._limits = limits
        self._runs = runs
        self._threads = PriorityThreads(threads)
        self._back_pressure = BackPressure(threads)
        self._budget = PixelBudget(budget_pixels)
        self._batching = {id(encoder): Batching(encoder, self._threads) for encoder in encoders}
        self._clock = _StageClock()
        self._has_lacked_memory = False
        """Whether the last image failed for lack of memory."""

    async def decode(self, data: bytes, *, bulk: bool, slot: Reservation | None = None) -> Image:
        """Decode a file to the upright image."""

        def step(entry: QueueEntry, share: PixelShare) -> Future[Image]:
            entry.cancellation.raise_if_set()
            with self._clock.measured("decode"):
                return _completed(self._source(data, share).whole())

        return await self._process(bulk, slot, step)

    async def detect(
        self, encoder: Encoder, image: bytes | Image, *, bulk: bool, slot: Reservation | None = None
    ) -> list[DetectedFace]:
        """Detect every face, largest first."""

        def step(entry: QueueEntry, share: PixelShare) -> Future[list[DetectedFace]]:
            detected = self._detect(encoder, self._source(image, share), entry)
            faces = encoder.inspect(detected.reduced.pixels, detected.faces)
            return _completed([enlarged(face, detected.reduced.factor) for face in faces])

        return await self._process(bulk, slot, step)

    async def encode(
        self,
        encoder: Encoder,
        image: bytes | Image,
        maximum_faces: int,
        *,
        bulk: bool,
        slot: Reservation | None = None,
    ) -> list[EncodedFace]:
        """Embed the largest faces, largest first."""

        def step(entry: QueueEntry, share: PixelShare) -> Future[list[EncodedFace]]:
            detected = self._detect(encoder, self._source(image, share), entry)
            with self._clock.measured("align"):
                faces, crops = _crop_faces(encoder, detected, maximum_faces)
            embedded = self._batching[id(encoder)].submit(crops, entry)
            return _then(embedded.done, lambda embeddings: self._finish(faces, embeddings, embedded))

        return await self._process(bulk, slot, step)

    async def embed(
        self, encoder: Encoder, image: Image, faces: Sequence[DetectedFace], *, bulk: bool
    ) -> list[EncodedFace]:
        """Embed faces that `detect` found in `image`, in their order."""

        def step(entry: QueueEntry, _: PixelShare) -> Future[list[EncodedFace]]:
            entry.cancellation.raise_if_set()
            with self._clock.measured("align"):
                crops = encoder.align(image, faces)
            embedded = self._batching[id(encoder)].submit(crops, entry)
            return _then(embedded.done, lambda embeddings: self._finish(list(faces), embeddings, embedded))

        return await self._process(bulk, None, step)

    def reserve_slot(self) -> Reservation:
        """Reserve a slot for an image. Raises Overloaded if an image would be refused now."""
        return self._back_pressure.reserve(acting_tenant())

    def load(self) -> QueueState:
        """Return the counters of the queue."""
        return self._back_pressure.load()

    def stages(self) -> StageSeconds:
        """Return the work since the start."""
        return self._clock.total()

    def check_memory(self) -> None:
        """Raises OutOfMemory if the last image failed for lack of memory and the memory is still missing."""
        if self._has_lacked_memory and not has_memory_for(self._limits.pixels):
            raise OutOfMemory("the last image failed for lack of memory, and it is still missing")

    def close(self) -> None:
        """Finish the submitted work, then end the threads."""
        self._threads.close()

    async def _process(self, bulk: bool, slot: Reservation | None, step: Step[T]) -> T:
        """Run `step` in a thread, and wait for the result of the future that it returns.

        Other threads may set that result. The event loop wakes once, when the whole image is done.
        """
        done: Future[T] = Future()
        entry = self._back_pressure.enter(
            bulk=bulk, slot=slot, tenant=acting_tenant(), pushed_out=lambda refusal: _refuse(done, refusal)
        )
        try:
            with self._runs.image():
                self._submit(entry, step, done)
                return await asyncio.wrap_future(done)
        except asyncio.CancelledError:
            entry.cancellation.cancel()
            raise
        finally:
            self._back_pressure.leave(entry)

    def _submit(self, entry: QueueEntry, step: Step[T], done: Future[T]) -> None:
        """Queue `step` for a thread. It completes `done`."""
        priority = Priority.BULK if entry.bulk else Priority.INTERACTIVE

        def work() -> None:
            try:
                self._back_pressure.start(entry)  # from here on no other image pushes this one out
            except CancelledError:
                return  # the caller has gone, or has the refusal already
            except Overloaded as refusal:
                _refuse(done, refusal)
                return
            if not done.set_running_or_notify_cancel():
                return
            began = time.perf_counter()
            lacks_memory = False
            try:
                with contextlib.closing(self._budget.share(entry.cancellation)) as share:
                    result = step(entry, share)
            except BaseException as error:  # raised where the result is awaited
                lacks_memory = is_lack_of_memory(error)
                if not lacks_memory:
                    done.set_exception(error)
            else:
                entry.busy_seconds += time.perf_counter() - began
                self._has_lacked_memory = False
                result.add_done_callback(lambda result: _settle(done, result.result))
            if lacks_memory:  # here the error, and with it the pixels, is no longer referred to
                self._has_lacked_memory = True
                release_memory()
                done.set_exception(OutOfMemory("the image needs more memory than there is now; try again in a moment"))
            else:
                self._threads.charge(priority, entry.tenant, self._back_pressure.turns_beyond_one(entry))

        self._threads.submit(work, priority, entry.tenant)

    def _finish(
        self, faces: list[DetectedFace], embeddings: list[Embedding], embedded: ImageEmbeddings
    ) -> list[EncodedFace]:
        embedded.entry.busy_seconds += embedded.seconds
        self._clock.count(len(embeddings))
        self._clock.add("embed", embedded.seconds)
        return [EncodedFace(*both) for both in zip(faces, embeddings, strict=True)]

    def _source(self, image: bytes | Image, share: PixelShare) -> SourceImage:
        return SourceImage(image, self._limits, share.enlarge, share.cancellation)

    def _detect(self, encoder: Encoder, source: SourceImage, entry: QueueEntry) -> _Detected:
        with self._clock.measured("decode"):
            reduced = source.reduced(encoder.detection_side)
        entry.cancellation.raise_if_set()
        with self._clock.measured("detect"):
            faces = encoder.detect(reduced.pixels)
        entry.cancellation.raise_if_set()
        return _Detected(source, reduced, faces)


class _StageClock:
    """Adds up the seconds that the threads report, here and in the metrics of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images = 0
        self._faces = 0
        self._seconds: dict[Stage, float] = dict.fromkeys(_STAGES, 0.0)

    @contextlib.contextmanager
    def measured(self, stage: Stage) -> Iterator[None]:
        """Add the seconds inside the block to `stage`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began)

    def add(self, stage: Stage, seconds: float) -> None:
        """Add thread seconds of `stage`."""
        STAGE_SECONDS.labels(stage).inc(seconds)
        with self._lock:
            self._seconds[stage] += seconds

    def count(self, faces: int) -> None:
        """Count an encoded image with that many faces."""
        IMAGES_ENCODED.inc()
        FACES_ENCODED.inc(faces)
        with self._lock:
            self._images += 1
            self._faces += faces

    def total(self) -> StageSeconds:
        """Return the sums so far."""
        with self._lock:
            return StageSeconds(self._images, self._faces, **self._seconds)


def _crop_faces(encoder: Encoder, detected: _Detected, maximum_faces: int) -> _CroppedFaces:
    """Cut out the largest faces. If one is smaller than its crop in the reduced image, all are cut out of the full one.

    An enlarged crop would hold less than the file does. But decoding the full image costs more than detection saved, so
    it happens only then.
    """
    reduced = detected.reduced
    small = encoder.inspect(reduced.pixels, detected.faces[:maximum_faces])
    faces = [enlarged(face, reduced.factor) for face in small]
    if reduced.factor == 1 or all(_fills_its_crop(face, encoder.crop_side) for face in small):
        return _CroppedFaces(faces, encoder.align(reduced.pixels, small))
    return _CroppedFaces(faces, encoder.align(detected.image.whole(), faces))


def _fills_its_crop(face: DetectedFace, crop_side: int) -> bool:
    """Return whether the crop needs no upscaling."""
    return min(face.box.right - face.box.left, face.box.bottom - face.box.top) >= crop_side


def _settle(done: Future[T], result: Callable[[], T]) -> None:
    """Complete `done` with the result or the error of `result`."""
    try:
        done.set_result(result())
    except BaseException as error:  # raised where the result is awaited
        lack = OutOfMemory("the faces need more memory than there is now; try again in a moment")
        done.set_exception(lack if is_lack_of_memory(error) else error)


def _refuse(done: Future[T], refusal: Overloaded) -> None:
    with contextlib.suppress(InvalidStateError):  # the caller has gone
        done.set_exception(refusal)


def _completed(value: T) -> Future[T]:
    """Return a completed future."""
    done: Future[T] = Future()
    done.set_result(value)
    return done


def _then(future: Future[S], change: Callable[[S], T]) -> Future[T]:
    """Return a future for `change` of the result of `future`."""
    done: Future[T] = Future()
    future.add_done_callback(lambda future: _settle(done, lambda: change(future.result())))
    return done
