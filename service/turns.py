"""Fair queues: the tenants that wait take turns, so that nobody waits for all that another tenant has queued.

Every queue of the service asks `acting_tenant` whose work it is. The routes and the worker set it once, with
`act_for`: as a parameter it would pass through every function between a route and a queue.

The standard library and asyncio have queues and semaphores only in the order of arrival, and schedulers of other
projects bring a process or a broker of their own. So the queue is written here.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")

NOBODY = 0
"""The tenant of work that no tenant asked for, such as requests of the operator. No tenant has this number."""

_acting_tenant: ContextVar[int] = ContextVar("acting_tenant", default=NOBODY)


def act_for(tenant_id: int) -> None:
    """Let the current task work for this tenant from now on, and the tasks that it starts."""
    _acting_tenant.set(tenant_id)


def acting_tenant() -> int:
    """The tenant that the current task works for."""
    return _acting_tenant.get()


class TurnQueue(Generic[T]):
    """Waiting items of several tenants. The tenant that was served least is next; its items keep their order.

    This is deficit round robin with payment afterwards: an item costs one turn when it is taken, and `charge` adds what
    it really cost. A tenant that comes back starts where the others are, so that nobody saves up turns.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, deque[T]] = {}
        self._served: dict[int, float] = {}
        """Turns of each tenant that waits, or that is ahead of the tenants that wait."""
        self._least = 0.0
        """Turns of the tenant that was served last, before it was served."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __iter__(self) -> Iterator[int]:
        """The tenants that wait, the next one first. Among equals the tenant that began to wait first is next."""
        return iter(sorted(self._waiting, key=self._served.__getitem__))

    def append(self, tenant: int, item: T) -> None:
        """Add an item behind the others of its tenant."""
        if tenant not in self._waiting:
            self._waiting[tenant] = deque()
            self._served[tenant] = max(self._served.get(tenant, 0.0), self._least)
        self._waiting[tenant].append(item)

    def popleft(self) -> T:
        """Take the next item. Raises IndexError if the queue is empty."""
        if not self._waiting:
            raise IndexError("the queue is empty")
        return self.pop_of(min(self._waiting, key=self._served.__getitem__))

    def pop_of(self, tenant: int) -> T:
        """Take the first item of a tenant that waits, which costs the tenant a turn."""
        self._least = max(self._least, min(self._served[waiting] for waiting in self._waiting))
        item = self._waiting[tenant].popleft()
        if not self._waiting[tenant]:
            del self._waiting[tenant]
        self._served[tenant] += 1.0
        self._forget()
        return item

    def remove(self, tenant: int, item: T) -> None:
        """Take out an item that nobody waits for any more. Raises ValueError if it is not in the queue."""
        waiting = self._waiting.get(tenant)
        if waiting is None:
            raise ValueError("the tenant has nothing in the queue")
        waiting.remove(item)
        if not waiting:
            del self._waiting[tenant]

    def charge(self, tenant: int, turns: float) -> None:
        """Add turns to a tenant whose item cost more than one, or take some back if it cost less."""
        self._served[tenant] = max(self._served.get(tenant, self._least) + turns, self._least)

    def _forget(self) -> None:
        """Forget the tenants that are not ahead of the others: without an entry they start there, too."""
        behind = [each for each, turns in self._served.items() if turns <= self._least and each not in self._waiting]
        for tenant in behind:
            del self._served[tenant]


class Turns:
    """A limited number of places. Tenants that wait for a place take turns, and none holds more than `most_of_one`.

    For the tasks of one event loop.
    """

    def __init__(self, places: int, most_of_one: int) -> None:
        self.places = places
        self.most_of_one = most_of_one
        self._held: Counter[int] = Counter()
        self._waiting: TurnQueue[asyncio.Future[None]] = TurnQueue()

    @property
    def held(self) -> int:
        """The places that are taken."""
        return self._held.total()

    def held_by(self, tenant: int) -> int:
        """The places that a tenant has taken."""
        return self._held[tenant]

    def waiting(self) -> int:
        """The tasks that wait for a place."""
        return len(self._waiting)

    def enter_now(self, tenant: int) -> bool:
        """Take a place if the tenant may have one at once. Returns whether it did.

        Nobody is passed: if a place is free, the tenants that wait all hold as many as they may.
        """
        if self.held >= self.places or self._held[tenant] >= self.most_of_one:
            return False
        self._held[tenant] += 1
        return True

    async def enter(self, tenant: int, timeout_seconds: float | None = None) -> None:
        """Take a place, in turn. `leave` gives it back. Raises TimeoutError after the given time."""
        if self.enter_now(tenant):
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(tenant, place)
        try:
            async with asyncio.timeout(timeout_seconds):
                await place
        except BaseException:
            if place.done() and not place.cancelled():  # the place was given while the task was cancelled
                self.leave(tenant)
            else:
                with contextlib.suppress(ValueError):  # `leave` has passed over the cancelled task
                    self._waiting.remove(tenant, place)
            raise

    def leave(self, tenant: int) -> None:
        """Give a place back, to the next tenant that may have it."""
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        while (following := self._next()) is not None:
            place = self._waiting.pop_of(following)
            if not place.done():  # else its task was cancelled
                self._held[following] += 1
                place.set_result(None)
                return

    def _next(self) -> int | None:
        return next((tenant for tenant in self._waiting if self._held[tenant] < self.most_of_one), None)
