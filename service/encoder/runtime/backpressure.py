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
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from service.errors import Overloaded

PICTURES_A_THREAD = 12
"""Taken at a time, waiting or in work: 24 with 2 cores, so that 16 clients that take turns are never refused."""

_STRAINED_SECONDS = 2.0
_KEPT_SECONDS = 0.1
"""How long a place is kept for a picture whose upload begins; longer ones take their chance, so that nobody who sends
slowly keeps others out."""
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


@dataclass(eq=False)
class Reservation:
    """A place that is kept for a picture to come, until then at the latest."""

    until: float


_own_place: ContextVar[Reservation | None] = ContextVar("place kept for this request's picture", default=None)
"""A request's first picture takes the place that was kept for it, and no one else's: else some more would get in."""


class BackPressure:
    """Counts tickets; every method may be called from any thread."""

    def __init__(self, threads: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._threads = threads
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._waiting = 0
        self._waiting_bulk = 0
        self._kept: deque[Reservation] = deque()
        self._refused = 0
        self._last_refusal = -math.inf
        self._picture_seconds = _FIRST_GUESS_SECONDS

    def enter(self, *, bulk: bool) -> QueueEntry:
        """A place in the queue; Overloaded where there is none."""
        with self._lock:
            if bulk:
                self._waiting_bulk += 1
            else:
                if not self._has_kept_its_place():
                    self._check()
                self._waiting += 1
            return QueueEntry(bulk, self._clock())

    def check(self) -> Reservation:
        """Keep a place for a picture of this task for a moment; Overloaded where there is none.

        That is cheaper than to read an upload for nothing. Give it back when the request is over, picture or not.
        """
        with self._lock:
            self._check()
            place = Reservation(self._clock() + _KEPT_SECONDS)
            self._kept.append(place)
            _own_place.set(place)
            return place

    def give_back(self, place: Reservation) -> None:
        """Keep the place no longer, where it is still kept: requests without a picture keep nobody out."""
        with self._lock:
            if place in self._kept:
                self._kept.remove(place)

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

    def _has_kept_its_place(self) -> bool:
        """Whether a place is still kept for this task's picture; it is used up."""
        place = _own_place.get()
        if place is None or place not in self._kept:
            return False
        self._kept.remove(place)
        return place.until > self._clock()

    def _check(self) -> None:
        now = self._clock()
        while self._kept and self._kept[0].until <= now:
            self._kept.popleft()
        most = self._threads if self._is_strained(now) else (PICTURES_A_THREAD - 1) * self._threads
        free = max(0, self._threads - self._running)
        if self._waiting + len(self._kept) >= most + free:
            self._last_refusal = now
            raise self._refusal()

    def _is_strained(self, now: float) -> bool:
        return now - self._last_refusal < _STRAINED_SECONDS

    def _refusal(self) -> Overloaded:
        self._refused += 1
        seconds = max(1, math.ceil(self._waiting * self._picture_seconds / self._threads))
        return Overloaded(f"{self._running + self._waiting} pictures are in work", retry_after_seconds=seconds)
