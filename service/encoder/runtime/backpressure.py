"""Back-pressure: limits the waiting images, and refuses more with Overloaded.

Up to 12 images per thread may wait or run, so that clients that take turns are never refused. After a refusal the
tenant is strained: until two seconds pass without a refusal, only as many of its images may wait as run. Answers stay
fast that way, and a few clients that retry at once end the strain. Refused clients get 503 with Retry-After. Bulk work
is never refused; it waits behind other work.

A full queue is full for the tenant that filled it. An image of another tenant takes the place of the newest image of
the tenant with the most images (the rule "longest queue drop" of network switches), so that a tenant with few images
is never refused because of the many of another, and the queue stays as short as it was.
"""

import math
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from service.encoder.images.cancellation import Cancellation
from service.errors import Overloaded
from service.telemetry import IMAGES_REFUSED, IMAGES_RUNNING, IMAGES_WAITING
from service.turns import NOBODY

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

    def __init__(self, bulk: bool, entered: float, tenant: int = NOBODY) -> None:
        self.bulk = bulk
        self.entered = entered
        self.tenant = tenant
        self.state: Literal["waiting", "running", "left"] = "waiting"
        self.cancellation = Cancellation()
        self.busy_seconds = 0.0
        """Thread seconds that the image has used."""
        self.pushed_out: Callable[[Overloaded], None] | None = None
        """Called if another tenant's image takes the place of this one."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the image any more."""
        return self.cancellation.is_set


class Reservation:
    """A slot that is reserved for the first image of one request.

    Pass it to `BackPressure.enter` with that image. Use it as a context manager around the request, or release it:
    a request without an image then keeps nobody out.
    """

    def __init__(self, back_pressure: "BackPressure", expires: float, tenant: int) -> None:
        self._back_pressure = back_pressure
        self.expires = expires
        """The reading of the clock at which the reservation ends by itself."""
        self.tenant = tenant

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
        self._waiting: defaultdict[int, deque[QueueEntry]] = defaultdict(deque)
        """The waiting images of each tenant, the newest last. Bulk work is not among them."""
        self._waiting_bulk = 0
        self._reserved: deque[Reservation] = deque()
        self._refused = 0
        self._refusals: dict[int, float] = {}
        """The time of each tenant's last refusal, the newest last."""
        self._image_seconds = _FIRST_GUESS_SECONDS

    def enter(
        self,
        *,
        bulk: bool,
        slot: Reservation | None = None,
        tenant: int = NOBODY,
        pushed_out: Callable[[Overloaded], None] | None = None,
    ) -> QueueEntry:
        """Put an image into the queue, in the reserved `slot` if it is still valid. Raises Overloaded if it is full.

        Only the image of the reservation may use it. If any image could, more would enter than were counted. If the
        image has to make room for another tenant's, it leaves the queue, and `pushed_out` is called with the error.
        """
        with self._lock:
            entry = QueueEntry(bulk, self._clock(), tenant)
            entry.pushed_out = pushed_out
            loser = None
            if bulk:
                self._waiting_bulk += 1
            else:
                if slot is None or not self._use(slot):
                    loser = self._make_room(tenant)
                self._waiting[tenant].append(entry)
            IMAGES_WAITING.inc()
        _tell(loser)
        return entry

    def reserve(self, tenant: int = NOBODY) -> Reservation:
        """Reserve a slot for an image that is about to be uploaded. Raises Overloaded if the queue is full.

        A refusal before the upload is read is cheaper than one after it.
        """
        with self._lock:
            loser = self._make_room(tenant)
            slot = Reservation(self, self._clock() + _RESERVED_SECONDS, tenant)
            self._reserved.append(slot)
        _tell(loser)
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
            if too_late and self._is_strained(entry.tenant, now) and not entry.bulk:
                # does not count as a refusal: it says nothing about new arrivals, so the strain can end
                raise self._refusal()

    def leave(self, entry: QueueEntry) -> None:
        """The image is done, refused or canceled."""
        with self._lock:
            if entry.state == "waiting":
                self._leave_queue(entry)
            elif entry.state == "running":
                self._running -= 1
                IMAGES_RUNNING.dec()
            entry.state = "left"
            if entry.busy_seconds and not entry.cancelled:
                self._image_seconds += _SMOOTHING * (entry.busy_seconds - self._image_seconds)

    def turns_beyond_one(self, entry: QueueEntry) -> float:
        """What a finished image cost more, or less, than the usual image, in durations of that."""
        with self._lock:
            return entry.busy_seconds / self._image_seconds - 1.0

    def load(self) -> QueueState:
        """Return the current counters."""
        with self._lock:
            waiting = self._count_waiting() + self._waiting_bulk
            return QueueState(self._running, waiting, self._refused, self._image_seconds)

    def _count_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _leave_queue(self, entry: QueueEntry) -> None:
        IMAGES_WAITING.dec()
        if entry.bulk:
            self._waiting_bulk -= 1
        else:
            waiting = self._waiting[entry.tenant]
            waiting.remove(entry)
            if not waiting:
                del self._waiting[entry.tenant]

    def _use(self, slot: Reservation) -> bool:
        """Use up the reservation. Returns whether it was still valid."""
        if slot not in self._reserved:
            return False
        self._reserved.remove(slot)
        return slot.expires > self._clock()

    def _make_room(self, tenant: int) -> tuple[QueueEntry, Overloaded] | None:
        """Raises Overloaded if the tenant may not add an image now. Returns the image that has to leave, if any."""
        now = self._clock()
        images = self._check_own(tenant, now)
        if images.total() < self._longest():
            return None
        largest, most = images.most_common(1)[0]
        if most <= images[tenant] + 1:  # the tenants would only push each other out
            raise self._refuse(tenant, now)
        return self._push_out(largest, now)

    def _check_own(self, tenant: int, now: float) -> Counter[int]:
        """Raises Overloaded if the tenant's own images fill the queue. Returns the images of each tenant."""
        self._forget(now)
        images = self._images_by_tenant()
        most = self._longest(self._threads) if self._is_strained(tenant, now) else self._longest()
        if images[tenant] >= most:
            raise self._refuse(tenant, now)
        return images

    def _longest(self, waiting: int | None = None) -> int:
        """The most images that may wait, with those that can start at once."""
        free = max(0, self._threads - self._running)
        return free + ((IMAGES_PER_THREAD - 1) * self._threads if waiting is None else waiting)

    def _images_by_tenant(self) -> Counter[int]:
        """The waiting images and the reservations of each tenant."""
        images = Counter({tenant: len(waiting) for tenant, waiting in self._waiting.items()})
        images.update(slot.tenant for slot in self._reserved)
        return images

    def _push_out(self, tenant: int, now: float) -> tuple[QueueEntry, Overloaded] | None:
        """Take the newest image of a tenant out of the queue, or its newest reservation if no image waits."""
        refusal = self._refuse(tenant, now)
        if not self._waiting.get(tenant):
            self._reserved.remove(next(slot for slot in reversed(self._reserved) if slot.tenant == tenant))
            return None
        entry = self._waiting[tenant][-1]
        self._leave_queue(entry)
        entry.state = "left"
        return entry, refusal

    def _forget(self, now: float) -> None:
        """Forget expired reservations and the tenants that are no longer strained."""
        while self._reserved and self._reserved[0].expires <= now:
            self._reserved.popleft()
        while self._refusals and not self._is_strained(first := next(iter(self._refusals)), now):
            del self._refusals[first]

    def _is_strained(self, tenant: int, now: float) -> bool:
        return now - self._refusals.get(tenant, -math.inf) < _STRAINED_SECONDS

    def _refuse(self, tenant: int, now: float) -> Overloaded:
        self._refusals.pop(tenant, None)  # so that the newest is the last
        self._refusals[tenant] = now
        return self._refusal()

    def _refusal(self) -> Overloaded:
        self._refused += 1
        IMAGES_REFUSED.inc()
        waiting = self._count_waiting()
        seconds = max(1, math.ceil(waiting * self._image_seconds / self._threads))
        return Overloaded(f"{self._running + waiting} images are in progress", retry_after_seconds=seconds)


def _tell(loser: tuple[QueueEntry, Overloaded] | None) -> None:
    """Tell the request of an image that it was pushed out. Outside of the lock: the callback may do anything."""
    if loser is not None and (pushed_out := loser[0].pushed_out) is not None:
        pushed_out(loser[1])
