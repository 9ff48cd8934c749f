"""Pipeline of one image: one thread decodes, detects and aligns, then its faces are embedded together with others.

Nothing runs on the event loop. If the caller is canceled, the remaining steps are skipped.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

import cv2

from service.embedding import Embedding
from service.encoder.contract import DetectedFace, EncodedFace, Encoder, Image
from service.encoder.images.decode import ImageLimits
from service.encoder.images.downscale import ReducedImage, SourceImage, enlarged
from service.encoder.runtime.backpressure import BackPressure, QueueEntry, QueueState, Reservation
from service.encoder.runtime.batching import Batching, Embedded
from service.encoder.runtime.run_counter import RunCounter
from service.encoder.runtime.stage_metrics import StageClock, StageSeconds
from service.encoder.runtime.threads import Priority, PriorityThreads

S = TypeVar("S")
T = TypeVar("T")


class _Searched(NamedTuple):
    """An image, its searched copy, and the faces in pixels of the copy."""

    picture: SourceImage
    reduced: ReducedImage
    faces: list[DetectedFace]


class _CutUp(NamedTuple):
    """Faces in pixels of the full image, and their crops for the recognition model."""

    faces: list[DetectedFace]
    crops: list[Image]


class Pipeline:
    """Threads, back-pressure and batches, shared by all encoders of a process."""

    def __init__(self, encoders: Sequence[Encoder], limits: ImageLimits, threads: int, runs: RunCounter) -> None:
        cv2.setNumThreads(1)  # OpenCV uses one thread: the threads of this pipeline divide the processors among them
        self._limits = limits
        self._runs = runs
        self._workers = PriorityThreads(threads)
        self._admission = BackPressure(threads)
        self._batching = {id(encoder): Batching(encoder, self._workers) for encoder in encoders}
        self._clock = StageClock()

    async def decode(self, data: bytes, *, bulk: bool, slot: Reservation | None = None) -> Image:
        """The upright image."""

        def step(ticket: QueueEntry) -> Future[Image]:
            ticket.go_on()
            with self._clock.measured("decode"):
                return _at_once(SourceImage(data, self._limits).whole())

        return await self._through(bulk, slot, step)

    async def detect(
        self, encoder: Encoder, image: bytes | Image, *, bulk: bool, slot: Reservation | None = None
    ) -> list[DetectedFace]:
        """Every face, largest first."""

        def step(ticket: QueueEntry) -> Future[list[DetectedFace]]:
            searched = self._searched(encoder, image, ticket)
            faces = encoder.inspect(searched.reduced.pixels, searched.faces)
            return _at_once([enlarged(face, searched.reduced.factor) for face in faces])

        return await self._through(bulk, slot, step)

    async def encode(
        self,
        encoder: Encoder,
        image: bytes | Image,
        maximum_faces: int,
        *,
        bulk: bool,
        slot: Reservation | None = None,
    ) -> list[EncodedFace]:
        """The largest faces with their embeddings, largest first."""

        def step(ticket: QueueEntry) -> Future[list[EncodedFace]]:
            searched = self._searched(encoder, image, ticket)
            with self._clock.measured("align"):
                faces, crops = _cut_up(encoder, searched, maximum_faces)
            embedded = self._batching[id(encoder)].submit(crops, ticket)
            return _with(embedded.done, lambda embeddings: self._finished(faces, embeddings, embedded))

        return await self._through(bulk, slot, step)

    def reserve_slot(self) -> Reservation:
        """Reserve a slot for an image. Raises Overloaded if an image would be refused now."""
        return self._admission.reserve()

    def load(self) -> QueueState:
        """Images running and waiting."""
        return self._admission.load()

    def stages(self) -> StageSeconds:
        """Work since the start."""
        return self._clock.total()

    def close(self) -> None:
        """Finish the submitted work, then end the threads."""
        self._workers.close()

    async def _through(self, bulk: bool, slot: Reservation | None, step: Callable[[QueueEntry], Future[T]]) -> T:
        """Run `step` in a thread and return the result of the future that it returns.

        Other threads may set that result. The event loop wakes once, when the whole image is done.
        """
        ticket = self._admission.enter(bulk=bulk, slot=slot)
        try:
            with self._runs.picture():
                return await asyncio.wrap_future(self._submitted(ticket, step))
        except asyncio.CancelledError:
            ticket.cancelled = True
            raise
        finally:
            self._admission.leave(ticket)

    def _submitted(self, ticket: QueueEntry, step: Callable[[QueueEntry], Future[T]]) -> Future[T]:
        done: Future[T] = Future()

        def work() -> None:
            if not done.set_running_or_notify_cancel():
                return
            began = time.perf_counter()
            try:
                self._admission.start(ticket)
                result = step(ticket)
            except BaseException as error:  # raised where the result is awaited
                done.set_exception(error)
            else:
                ticket.busy_seconds += time.perf_counter() - began
                result.add_done_callback(lambda result: _settle(done, result.result))

        self._workers.submit(work, Priority.BULK if ticket.bulk else Priority.INTERACTIVE)
        return done

    def _finished(
        self, faces: list[DetectedFace], embeddings: list[Embedding], embedded: Embedded
    ) -> list[EncodedFace]:
        embedded.ticket.busy_seconds += embedded.seconds
        self._clock.add(pictures=1, faces=len(embeddings), embed=embedded.seconds)
        return [EncodedFace(*both) for both in zip(faces, embeddings, strict=True)]

    def _searched(self, encoder: Encoder, image: bytes | Image, ticket: QueueEntry) -> _Searched:
        with self._clock.measured("decode"):
            picture = SourceImage(image, self._limits)
            reduced = picture.reduced(encoder.detection_side)
        ticket.go_on()
        with self._clock.measured("detect"):
            faces = encoder.detect(reduced.pixels)
        ticket.go_on()
        return _Searched(picture, reduced, faces)


def _cut_up(encoder: Encoder, searched: _Searched, maximum_faces: int) -> _CutUp:
    """The largest faces. A face that is small in the reduced image is cut out of the full image."""
    reduced = searched.reduced
    small = encoder.inspect(reduced.pixels, searched.faces[:maximum_faces])
    faces = [enlarged(face, reduced.factor) for face in small]
    if reduced.factor == 1 or all(_is_fine(face, encoder.crop_side) for face in small):
        return _CutUp(faces, encoder.align(reduced.pixels, small))
    return _CutUp(faces, encoder.align(searched.picture.whole(), faces))


def _is_fine(face: DetectedFace, crop_side: int) -> bool:
    """Whether the crop needs no upscaling."""
    return min(face.box.right - face.box.left, face.box.bottom - face.box.top) >= crop_side


def _settle(done: Future[T], result: Callable[[], T]) -> None:
    """Complete `done` with the result or the error of `result`."""
    try:
        done.set_result(result())
    except BaseException as error:  # raised where the result is awaited
        done.set_exception(error)


def _at_once(value: T) -> Future[T]:
    """A completed future."""
    done: Future[T] = Future()
    done.set_result(value)
    return done


def _with(future: Future[S], change: Callable[[S], T]) -> Future[T]:
    """A future for `change` of the result of `future`."""
    done: Future[T] = Future()
    future.add_done_callback(lambda future: _settle(done, lambda: change(future.result())))
    return done
