"""What a search costs, and the slices of a big batch.

The cost is charged against the rate limit before the search. A search of many probes runs slice by slice. Between two
slices the connection goes back to the pool, where other tenants have their turns, and only a few slices run at one
time: each of them keeps a processor of the database busy.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.database.pool import batch_turns
from service.gallery.galleries import Gallery
from service.gallery.search.plans import Plan, PlanInputs, cost
from service.turns import acting_tenant

COMPARISONS_PER_UNIT = 1_000_000
"""Comparisons that one unit of the rate limits pays for. A search of that size takes about as long as an image."""
LEAST_COMPARISONS = 10_000
"""A probe costs at least as much as in a gallery of this size: parsing and answering cost, too."""
SLICE_MICROSECONDS = 100_000.0
"""Estimated work of one slice. A statement more costs half a millisecond, so that slices cost less than 1 %."""

Charge = Callable[[int], Awaitable[None]]
"""Charges units of the rate limit. Raises TooManyRequests."""


async def charge_nothing(_: int) -> None:
    """For callers without a rate limit, such as commands."""


def search_units(galleries: Iterable[Gallery], probes: int) -> int:
    """Units of the rate limit for a search of that many probes: see `units_of`."""
    return units_of([gallery.faces for gallery in galleries], probes)


def units_of(references: Iterable[int], probes: int) -> int:
    """Probes times references in units of the rate limit, at least 1. `references`: the number in each gallery."""
    comparisons = sum(max(LEAST_COMPARISONS, number) for number in references)
    return max(1, -(-probes * comparisons // COMPARISONS_PER_UNIT))


def probes_per_slice(plan: Plan, inputs: PlanInputs) -> int:
    """Probes that one statement of a big batch takes, at least 1."""
    return max(1, int(SLICE_MICROSECONDS / max(1.0, cost(plan, inputs))))


@contextlib.asynccontextmanager
async def slice_turn(session: AsyncSession) -> AsyncIterator[None]:
    """Wait for the turn of a slice.

    A session within a transaction does not wait: it holds a connection, and the search that has the turn may need it.
    """
    engine = session.bind
    turns = batch_turns(engine.sync_engine) if isinstance(engine, AsyncEngine) else None
    if turns is None or session.in_transaction():
        yield
        return
    tenant = acting_tenant()
    await turns.enter(tenant)
    try:
        yield
    finally:
        turns.leave(tenant)
