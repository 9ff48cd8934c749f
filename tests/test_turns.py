"""Fair queues: tenants take turns."""

import asyncio
from collections.abc import Sequence

import pytest

from service.turns import TurnQueue, Turns, act_for, acting_tenant

BUSY, QUIET, OTHER = 1, 2, 3


def queue_of(tenants: Sequence[int]) -> TurnQueue[int]:
    """A queue with one item for each of the tenants, which is the tenant itself."""
    queue: TurnQueue[int] = TurnQueue()
    for tenant in tenants:
        queue.append(tenant, tenant)
    return queue


def taken(queue: TurnQueue[int], items: int) -> list[int]:
    return [queue.popleft() for _ in range(items)]


def test_a_tenant_with_few_items_does_not_wait_for_all_items_of_another() -> None:
    assert taken(queue_of([BUSY] * 100 + [QUIET, OTHER]), 4) == [BUSY, QUIET, OTHER, BUSY]


def test_a_tenant_that_arrives_later_is_next_but_one() -> None:
    queue = queue_of([BUSY] * 100)
    taken(queue, 50)
    queue.append(QUIET, QUIET)
    assert QUIET in taken(queue, 2)


def test_nobody_starves_behind_tenants_that_always_have_one_item() -> None:
    queue = queue_of([BUSY] * 3 + [QUIET, OTHER])
    order = []
    for _ in range(9):
        order.append(queue.popleft())
        if order[-1] != BUSY:
            queue.append(order[-1], order[-1])
    assert order.count(BUSY) == 3


def test_a_tenant_that_was_idle_has_saved_no_turns() -> None:
    queue = queue_of([BUSY] * 100)
    taken(queue, 50)
    for _ in range(10):
        queue.append(QUIET, QUIET)
    assert taken(queue, 10).count(QUIET) <= 6


def test_a_tenant_whose_items_cost_more_has_fewer_turns() -> None:
    queue = queue_of([BUSY] * 100 + [QUIET] * 100)
    order = []
    for _ in range(40):
        order.append(queue.popleft())
        if order[-1] == BUSY:
            queue.charge(BUSY, 3.0)
    assert order.count(BUSY) == 8


def test_the_items_of_a_tenant_keep_their_order() -> None:
    queue: TurnQueue[str] = TurnQueue()
    for item in "abc":
        queue.append(BUSY, item)
    queue.remove(BUSY, "b")
    assert [queue.popleft(), queue.popleft()] == ["a", "c"]
    assert not queue
    with pytest.raises(IndexError):
        queue.popleft()
    with pytest.raises(ValueError, match="nothing"):
        queue.remove(BUSY, "b")


def test_the_queue_remembers_nobody_who_is_not_ahead_of_the_others() -> None:
    queue = queue_of(range(1000))
    taken(queue, 1000)
    queue.append(BUSY, BUSY)
    queue.append(BUSY, BUSY)
    taken(queue, 2)
    assert len(queue._served) <= 2


async def entered(turns: Turns, tenant: int, order: list[int]) -> None:
    await turns.enter(tenant)
    order.append(tenant)


async def started(turns: Turns, tenants: Sequence[int], order: list[int]) -> list[asyncio.Task[None]]:
    tasks = []
    for tenant in tenants:
        tasks.append(asyncio.create_task(entered(turns, tenant, order)))
        await asyncio.sleep(0)
    return tasks


async def test_places_go_round_the_tenants_that_wait() -> None:
    turns, order = Turns(places=1, most_of_one=1), list[int]()
    tasks = await started(turns, [BUSY] * 10 + [QUIET, OTHER], order)
    while turns.held:
        turns.leave(order[-1])
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order[:4] == [BUSY, BUSY, QUIET, OTHER]  # the first of them waited for nobody
    assert sorted(order) == [BUSY] * 10 + [QUIET, OTHER]


async def test_no_tenant_holds_every_place() -> None:
    turns, order = Turns(places=4, most_of_one=3), list[int]()
    tasks = await started(turns, [BUSY] * 10, order)
    assert (turns.held_by(BUSY), turns.waiting()) == (3, 7)
    assert turns.enter_now(QUIET)
    turns.leave(BUSY)
    await asyncio.sleep(0)
    assert turns.held_by(BUSY) == 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (turns.held_by(BUSY), turns.waiting()) == (3, 0)  # the tasks that had entered still hold their places


async def test_a_place_that_is_given_to_a_cancelled_task_goes_to_the_next() -> None:
    turns, order = Turns(places=1, most_of_one=1), list[int]()
    _, cancelled, following = await started(turns, [BUSY, QUIET, OTHER], order)
    turns.leave(BUSY)  # the place is given to the second task, which has not run since
    cancelled.cancel()
    await asyncio.gather(cancelled, following, return_exceptions=True)
    assert order == [BUSY, OTHER]


async def test_a_cancelled_task_is_passed_over() -> None:
    turns, order = Turns(places=1, most_of_one=1), list[int]()
    _, cancelled, following = await started(turns, [BUSY, QUIET, OTHER], order)
    cancelled.cancel()
    turns.leave(BUSY)
    await asyncio.gather(cancelled, following, return_exceptions=True)
    assert order == [BUSY, OTHER]
    assert (turns.held, turns.waiting()) == (1, 0)


async def test_waiting_ends_with_the_given_time() -> None:
    turns = Turns(places=1, most_of_one=1)
    assert turns.enter_now(BUSY)
    with pytest.raises(TimeoutError):
        await turns.enter(QUIET, timeout_seconds=0.0)
    assert turns.waiting() == 0


async def test_a_task_acts_for_the_tenant_of_the_task_that_started_it() -> None:
    async def tenant() -> int:
        return acting_tenant()

    async def other() -> None:
        act_for(OTHER)

    act_for(BUSY)
    await asyncio.create_task(other())
    assert await asyncio.create_task(tenant()) == BUSY
