"""Back-pressure: limits the waiting images, and refuses more with Overloaded.

Up to 12 images per thread may wait or run, so that clients that take turns are never refused. After a refusal the
server is strained: until two seconds pass without a refusal, only as many images may wait as run. Answers stay fast
that way, and a few clients that retry at once end the strain. Refused clients get 503 with Retry-After. Bulk work is
never refused; it waits behind other work.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from service.encoder.images.cancellation import Cancellation
from service.errors import Overloaded
from service.telemetry import IMAGES_REFUSED, IMAGES_RUNNING, IMAGES_WAITING

IMAGES_PER_THREAD = 12
"""Images that wait or run: 24 with 2 cores, so that 16 clients that take turns are never refused."""

_STRAINED_SECONDS = 2.0
_RESERVED_SECONDS = 0.1
"""How long a slot is reserved for an image whose upload begins. Slower uploads compete for a slot again when they are
complete, so a slow client cannot keep others out."""
_LONGEST_WAIT = 1.0
"""In durations of one image. A strained server refuses an image that waited longer. So no answer takes much more than
two durations: one of waiting and one of work.
"""
_SMOOTHING = 0.1
_FIRST_GUESS_SECONDS = 0.1


@dataclass(frozen=True)
class QueueState:
    """Images running and waiting, refusals since the start, and the thread seconds of one image."""

    running: int
    waiting: int
    refused: int
    image_seconds: float


class QueueEntry:
    """One image in the queue. Its `cancellation` is set when nobody waits for the result any more."""

    def __init__(self, bulk: bool, entered: float) -> None:
        self.bulk = bulk
        self.entered = entered
        self.state: Literal["waiting", "running", "left"] = "waiting"
        self.cancellation = Cancellation()
        self.busy_seconds = 0.0
        """Thread seconds that the image has used."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the image any more."""
        return self.cancellation.is_set


class Reservation:
    """A slot that is reserved for the first image of one request.

    Pass it to `BackPressure.enter` with that image. Use it as a context manager around the request, or release it:
    a request without an image then keeps nobody out.
    """

    def __init__(self, back_pressure: "BackPressure", expires: float) -> None:
        self._back_pressure = back_pressure
        self.expires = expires
        """The reading of the clock at which the reservation ends by itself."""

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """End the reservation. Does nothing if it was used, released or has expired."""
        self._back_pressure.release(self)


class BackPressure:
    """The counters behind the limits. Any thread may call any method."""

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._waiting = 0
        self._waiting_bulk = 0
        self._reserved: deque[Reservation] = deque()
        self._refused = 0
        self._last_refusal = -math.inf
        self._image_seconds = _FIRST_GUESS_SECONDS

    def enter(self, *, bulk: bool, slot: Reservation | None = None) -> QueueEntry:
        """Put an image into the queue, in the reserved `slot` if it is still valid. Raises Overloaded if it is full.

        Only the image of the reservation may use it. If any image could, more would enter than were counted.
        """
        with self._lock:
            if bulk:
                self._waiting_bulk += 1
            else:
                if slot is None or not self._use(slot):
                    self._check()
                self._waiting += 1
            IMAGES_WAITING.inc()
            return QueueEntry(bulk, self._clock())

    def reserve(self) -> Reservation:
        """Reserve a slot for an image that is about to be uploaded. Raises Overloaded if the queue is full.

        A refusal before the upload is read is cheaper than one after it.
        """
        with self._lock:
            self._check()
            slot = Reservation(self, self._clock() + _RESERVED_SECONDS)
            self._reserved.append(slot)
            return slot

    def release(self, slot: Reservation) -> None:
        """End the reservation. Does nothing if it was used, released or has expired."""
        with self._lock:
            if slot in self._reserved:
                self._reserved.remove(slot)

    def start(self, entry: QueueEntry) -> None:
        """A thread starts the image. Raises Overloaded if it has waited too long."""
        with self._lock:
            if entry.state == "left":
                raise CancelledError
            now = self._clock()
            self._leave_queue(entry)
            entry.state = "running"
            self._running += 1
            IMAGES_RUNNING.inc()
            too_late = now - entry.entered > _LONGEST_WAIT * self._image_seconds
            if too_late and self._is_strained(now) and not entry.bulk:
                # does not count as a refusal: it says nothing about new arrivals, so the strain can end
                raise self._refusal()

    def leave(self, entry: QueueEntry) -> None:
        """The image is done, refused or canceled."""
        with self._lock:
            if entry.state == "waiting":
                self._leave_queue(entry)
            else:
                self._running -= 1
                IMAGES_RUNNING.dec()
            entry.state = "left"
            if entry.busy_seconds and not entry.cancelled:
                self._image_seconds += _SMOOTHING * (entry.busy_seconds - self._image_seconds)

    def load(self) -> QueueState:
        """Return the current counters."""
        with self._lock:
            return QueueState(self._running, self._waiting + self._waiting_bulk, self._refused, self._image_seconds)

    def _leave_queue(self, entry: QueueEntry) -> None:
        IMAGES_WAITING.dec()
        if entry.bulk:
            self._waiting_bulk -= 1
        else:
            self._waiting -= 1

    def _use(self, slot: Reservation) -> bool:
        """Use up the reservation. Returns whether it was still valid."""
        if slot not in self._reserved:
            return False
        self._reserved.remove(slot)
        return slot.expires > self._clock()

    def _check(self) -> None:
        now = self._clock()
        while self._reserved and self._reserved[0].expires <= now:
            self._reserved.popleft()
        most = self._threads if self._is_strained(now) else (IMAGES_PER_THREAD - 1) * self._threads
        free = max(0, self._threads - self._running)
        if self._waiting + len(self._reserved) >= most + free:
            self._last_refusal = now
            raise self._refusal()

    def _is_strained(self, now: float) -> bool:
        return now - self._last_refusal < _STRAINED_SECONDS

    def _refusal(self) -> Overloaded:
        self._refused += 1
        IMAGES_REFUSED.inc()
        seconds = max(1, math.ceil(self._waiting * self._image_seconds / self._threads))
        return Overloaded(f"{self._running + self._waiting} images are in progress", retry_after_seconds=seconds)
