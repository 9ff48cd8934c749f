"""How many pictures may wait, and which are told to come back later.

Clients that take turns never see a refusal: up to 12 pictures a thread are taken. Beyond that the server is strained:
until two seconds pass without a refusal only as many wait as are worked on, so that answers stay fast and clients
who ask again at once end the strain where they are few. Others get 503 with Retry-After. Bulk work is never refused;
it waits behind the others.
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

from service.errors import Overloaded

PICTURES_A_THREAD = 12
"""Taken at a time, waiting or in work: 24 with 2 cores, so that 16 clients that take turns are never refused."""

_STRAINED_SECONDS = 2.0
_RESERVED_SECONDS = 0.1
"""How long a slot is reserved for an image whose upload begins. Slower uploads compete for a slot again when they are
complete, so a slow client cannot keep others out."""
_LONGEST_WAIT = 1.0
"""In pictures' times: who waited longer for a strained server is refused, so that no answer takes much over two."""
_SMOOTHING = 0.1
_FIRST_GUESS_SECONDS = 0.1


@dataclass(frozen=True)
class QueueState:
    """Pictures in work and waiting, refusals since the start, and how long one picture keeps a thread busy."""

    running: int
    waiting: int
    refused: int
    picture_seconds: float


class QueueEntry:
    """One picture's way through; `cancelled` when nobody waits for it any more."""

    def __init__(self, bulk: bool, entered: float) -> None:
        self.bulk = bulk
        self.entered = entered
        self.state: Literal["waiting", "running", "left"] = "waiting"
        self.cancelled = False
        self.busy_seconds = 0.0
        """How long the picture kept threads so far."""

    def go_on(self) -> None:
        """CancelledError where nobody waits for the picture any more."""
        if self.cancelled:
            raise CancelledError


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
    """Counts tickets; every method may be called from any thread."""

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
        self._picture_seconds = _FIRST_GUESS_SECONDS

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

    def start(self, ticket: QueueEntry) -> None:
        """A thread takes the picture up. Overloaded where it has waited too long to be answered well."""
        with self._lock:
            if ticket.state == "left":
                raise CancelledError
            now = self._clock()
            self._leave_queue(ticket)
            ticket.state = "running"
            self._running += 1
            too_late = now - ticket.entered > _LONGEST_WAIT * self._picture_seconds
            if too_late and self._is_strained(now) and not ticket.bulk:
                raise self._refusal()  # it says nothing of how many come now, so the strain may end all the same

    def leave(self, ticket: QueueEntry) -> None:
        """The picture is done, refused or given up."""
        with self._lock:
            if ticket.state == "waiting":
                self._leave_queue(ticket)
            else:
                self._running -= 1
            ticket.state = "left"
            if ticket.busy_seconds and not ticket.cancelled:
                self._picture_seconds += _SMOOTHING * (ticket.busy_seconds - self._picture_seconds)

    def load(self) -> QueueState:
        """How things stand."""
        with self._lock:
            return QueueState(self._running, self._waiting + self._waiting_bulk, self._refused, self._picture_seconds)

    def _leave_queue(self, ticket: QueueEntry) -> None:
        if ticket.bulk:
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
        most = self._threads if self._is_strained(now) else (PICTURES_A_THREAD - 1) * self._threads
        free = max(0, self._threads - self._running)
        if self._waiting + len(self._reserved) >= most + free:
            self._last_refusal = now
            raise self._refusal()

    def _is_strained(self, now: float) -> bool:
        return now - self._last_refusal < _STRAINED_SECONDS

    def _refusal(self) -> Overloaded:
        self._refused += 1
        seconds = max(1, math.ceil(self._waiting * self._picture_seconds / self._threads))
        return Overloaded(f"{self._running + self._waiting} pictures are in work", retry_after_seconds=seconds)
