"""A picture's way through an encoder: decoded, searched and cut up by one thread, then embedded with others' faces.

Nothing of it runs on the event loop. Where the caller is cancelled, the steps not yet taken are not taken.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

from service.encoder.admission import Admission, Load, Ticket
from service.encoder.batching import Batching
from service.encoder.contract import DetectedFace, EncodedFace, Encoder, Image
from service.encoder.images import ImageLimits
from service.encoder.pictures import Picture, Reduced, enlarged
from service.encoder.stages import StageClock, StageSeconds
from service.encoder.workers import Urgency, Workers

T = TypeVar("T")


class _Searched(NamedTuple):
    """A picture, what of it was searched, and the faces in pixels of that."""

    picture: Picture
    reduced: Reduced
    faces: list[DetectedFace]


class _CutUp(NamedTuple):
    """Faces in pixels of the whole picture, and each as the recognition network takes it."""

    faces: list[DetectedFace]
    crops: list[Image]


class Pipeline:
    """Threads, admission and batches, shared by all encoders of a process."""

    def __init__(self, encoders: Sequence[Encoder], limits: ImageLimits, threads: int) -> None:
        self._limits = limits
        self._workers = Workers(threads)
        self._admission = Admission(threads)
        self._batching = {id(encoder): Batching(encoder, self._workers) for encoder in encoders}
        self._clock = StageClock()

    async def decode(self, data: bytes, *, bulk: bool) -> Image:
        """The upright picture."""

        def step(ticket: Ticket) -> Image:
            ticket.go_on()
            with self._clock.measured("decode"):
                return Picture(data, self._limits).whole()

        return await self._through(bulk, lambda ticket: self._in_thread(ticket, step))

    async def detect(self, encoder: Encoder, image: bytes | Image, *, bulk: bool) -> list[DetectedFace]:
        """Every face, largest first."""

        def step(ticket: Ticket) -> list[DetectedFace]:
            searched = self._searched(encoder, image, ticket)
            faces = encoder.inspect(searched.reduced.pixels, searched.faces)
            return [enlarged(face, searched.reduced.factor) for face in faces]

        return await self._through(bulk, lambda ticket: self._in_thread(ticket, step))

    async def encode(
        self, encoder: Encoder, image: bytes | Image, maximum_faces: int, *, bulk: bool
    ) -> list[EncodedFace]:
        """The largest faces with their embeddings, largest first."""

        def step(ticket: Ticket) -> _CutUp:
            searched = self._searched(encoder, image, ticket)
            with self._clock.measured("align"):
                return _cut_up(encoder, searched, maximum_faces)

        async def steps(ticket: Ticket) -> list[EncodedFace]:
            cut_up = await self._in_thread(ticket, step)
            embedded = self._batching[id(encoder)].submit(cut_up.crops, ticket)
            embeddings = await asyncio.wrap_future(embedded.done)
            ticket.busy_seconds += embedded.seconds
            self._clock.add(pictures=1, faces=len(embeddings), embed=embedded.seconds)
            return [EncodedFace(*both) for both in zip(cut_up.faces, embeddings, strict=True)]

        return await self._through(bulk, steps)

    def check_load(self) -> None:
        """Overloaded where a picture would be refused now."""
        self._admission.check()

    def load(self) -> Load:
        """How many pictures are in work and waiting."""
        return self._admission.load()

    def stages(self) -> StageSeconds:
        """What was done since the start."""
        return self._clock.total()

    def close(self) -> None:
        """Finish what was begun, then end the threads."""
        self._workers.close()

    async def _through(self, bulk: bool, steps: Callable[[Ticket], Awaitable[T]]) -> T:
        ticket = self._admission.enter(bulk=bulk)
        try:
            return await steps(ticket)
        except asyncio.CancelledError:
            ticket.cancelled = True
            raise
        finally:
            self._admission.leave(ticket)

    async def _in_thread(self, ticket: Ticket, step: Callable[[Ticket], T]) -> T:
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            began = time.perf_counter()
            try:
                self._admission.start(ticket)
                result = step(ticket)
            except BaseException as error:  # it is raised where the result is awaited
                future.set_exception(error)
            else:
                ticket.busy_seconds += time.perf_counter() - began
                future.set_result(result)

        self._workers.submit(work, Urgency.BULK if ticket.bulk else Urgency.INTERACTIVE)
        return await asyncio.wrap_future(future)

    def _searched(self, encoder: Encoder, image: bytes | Image, ticket: Ticket) -> _Searched:
        with self._clock.measured("decode"):
            picture = Picture(image, self._limits)
            reduced = picture.reduced(encoder.detection_side)
        ticket.go_on()
        with self._clock.measured("detect"):
            faces = encoder.detect(reduced.pixels)
        ticket.go_on()
        return _Searched(picture, reduced, faces)


def _cut_up(encoder: Encoder, searched: _Searched, maximum_faces: int) -> _CutUp:
    """The largest faces; one that is small in the reduced picture is cut out of the whole one."""
    reduced = searched.reduced
    small = encoder.inspect(reduced.pixels, searched.faces[:maximum_faces])
    faces = [enlarged(face, reduced.factor) for face in small]
    if reduced.factor == 1 or all(_is_fine(face, encoder.crop_side) for face in small):
        return _CutUp(faces, encoder.align(reduced.pixels, small))
    return _CutUp(faces, encoder.align(searched.picture.whole(), faces))


def _is_fine(face: DetectedFace, crop_side: int) -> bool:
    """Whether the crop would not be enlarged."""
    return min(face.box.right - face.box.left, face.box.bottom - face.box.top) >= crop_side
