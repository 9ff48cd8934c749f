"""Rate limits of tenants and keys: granted up to the limit, refilled evenly, shared by all processes.

An allowance refills while a test runs. So a test compares the grants with the limit plus the refill since its start
(`Allowance`), or admits until it is refused (`refusal_of`): neither depends on the speed of the machine.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from service.access.authentication import admit, charge
from service.access.keys import KeyRequest, create_key, create_key_as
from service.access.operator import operator_transaction
from service.access.quotas import CostClass, Quotas, RateLimits
from service.access.tenants import change_quotas, create_tenant
from service.database.connection import Database
from service.database.logins import connect
from service.database.session import tenant_session
from service.errors import TooManyRequests


async def key_of_tenant(database: Database, name: str, quotas: Quotas, rates: RateLimits | None = None) -> str:
    """A key of a fresh tenant with quotas."""
    async with operator_transaction(database.engine) as connection:
        number = await create_tenant(connection, name, quotas)
    async with tenant_session(database.engine, number) as session:
        _, key = await create_key(session, "key", rates=rates)
        await session.commit()
    return key


@dataclass(frozen=True)
class Allowance:
    """A full allowance of a rate limit, made before the first request that is charged."""

    per_minute: int
    started: float = field(default_factory=time.monotonic)

    def is_used_up_by(self, grants: int, added: int = 0) -> bool:
        """Whether this is the number of grants of the whole allowance, with `added` units and at most the refill."""
        refill = (time.monotonic() - self.started) * self.per_minute / 60
        return self.per_minute + added <= grants <= self.per_minute + added + refill


async def refusal_of(attempt: Callable[[], Awaitable[object]]) -> TooManyRequests:
    """Attempt until the rate limit refuses, and return the error."""
    while True:
        try:
            await attempt()
        except TooManyRequests as error:
            return error


async def granted(database: Database, key: str, attempts: int, cost_class: CostClass = "request") -> int:
    """Return how many of a number of concurrent attempts are granted."""

    async def attempt() -> bool:
        try:
            await admit(database.engine, key, cost_class)
        except TooManyRequests:
            return False
        return True

    return sum(await asyncio.gather(*[attempt() for _ in range(attempts)]))


async def test_a_tenant_without_a_rate_limit_has_no_counter(database: Database, session: AsyncSession) -> None:
    _, key = await create_key(session, "door")
    await session.commit()
    assert await granted(database, key, 50) == 50
    assert (await session.execute(text("SELECT count(*) FROM rate_limit"))).scalar_one() == 0


async def test_a_tenant_is_granted_its_rate_and_not_more(database: Database) -> None:
    key = await key_of_tenant(database, "rate-of-two", Quotas(requests_per_minute=2))
    allowance = Allowance(2)
    assert allowance.is_used_up_by(await granted(database, key, 30))


async def test_cost_classes_have_separate_allowances(database: Database) -> None:
    key = await key_of_tenant(database, "two-classes", Quotas(requests_per_minute=3, inferences_per_minute=2))
    requests, inferences = Allowance(3), Allowance(2)
    assert inferences.is_used_up_by(await granted(database, key, 10, "inference"))
    assert requests.is_used_up_by(await granted(database, key, 30))


async def test_a_refusal_says_when_to_retry(database: Database) -> None:
    key = await key_of_tenant(database, "one-a-minute", Quotas(inferences_per_minute=2))
    refusal = await refusal_of(lambda: admit(database.engine, key, "inference"))
    assert 1 <= refusal.retry_after_seconds <= 30


async def test_an_allowance_refills_evenly(database: Database) -> None:
    key = await key_of_tenant(database, "ten-a-minute", Quotas(requests_per_minute=10))
    allowance = Allowance(10)
    caller = await admit(database.engine, key)
    before = 1 + await granted(database, key, 20)
    with connect(database.logins.administrator) as connection:  # as if half a minute had passed
        past = "UPDATE rate_limit SET full_at = full_at - interval '30 seconds' WHERE tenant_id = %s"
        connection.execute(past, [caller.tenant_id])
    assert allowance.is_used_up_by(before + await granted(database, key, 20), added=5)


async def test_all_keys_of_a_tenant_share_its_rate(database: Database) -> None:
    key = await key_of_tenant(database, "shared-rate", Quotas(requests_per_minute=3))
    allowance = Allowance(3)
    caller = await admit(database.engine, key)
    async with tenant_session(database.engine, caller.tenant_id) as session:
        _, second = await create_key(session, "second")
        await session.commit()
    grants = 1 + await granted(database, key, 20) + await granted(database, second, 20)
    assert allowance.is_used_up_by(grants)


async def test_a_key_can_have_its_own_rate_limit(database: Database) -> None:
    key = await key_of_tenant(database, "own-rate", Quotas(requests_per_minute=3), RateLimits(requests_per_minute=2))
    allowance = Allowance(2)
    grants = await granted(database, key, 20)
    async with operator_transaction(database.engine) as connection:
        await change_quotas(connection, "own-rate", Quotas())
    assert allowance.is_used_up_by(grants + await granted(database, key, 20))


async def test_the_rate_limits_of_two_tenants_are_separate(database: Database) -> None:
    exhausted = await key_of_tenant(database, "exhausted", Quotas(requests_per_minute=1))
    await refusal_of(lambda: admit(database.engine, exhausted))
    other = await key_of_tenant(database, "fresh", Quotas(requests_per_minute=2))
    allowance = Allowance(2)
    assert allowance.is_used_up_by(await granted(database, other, 9))


async def test_further_images_of_a_request_are_charged(database: Database) -> None:
    key = await key_of_tenant(database, "many-images", Quotas(inferences_per_minute=10))
    allowance, grants = Allowance(10), 10
    caller = await admit(database.engine, key, "inference")
    await charge(database.engine, caller, "inference", 9)

    async def charge_one() -> None:
        nonlocal grants
        await charge(database.engine, caller, "inference", 1)
        grants += 1

    await refusal_of(charge_one)
    assert allowance.is_used_up_by(grants)


async def test_a_request_that_costs_more_than_a_full_allowance_takes_all_of_it(database: Database) -> None:
    key = await key_of_tenant(database, "costly", Quotas(inferences_per_minute=10, requests_per_minute=100))
    caller = await admit(database.engine, key)
    await charge(database.engine, caller, "inference", 200)
    refusal = await refusal_of(lambda: charge(database.engine, caller, "inference", 200))
    assert 1 <= refusal.retry_after_seconds <= 60


async def test_several_processes_share_the_rate_limit(database: Database) -> None:
    """Two pools that share only the database represent two processes."""
    key = await key_of_tenant(database, "two-processes", Quotas(requests_per_minute=3))
    allowance = Allowance(3)
    second = create_async_engine(database.logins.service, pool_size=4)

    async def attempt(engine_number: int) -> bool:
        try:
            await admit(database.engine if engine_number else second, key)
        except TooManyRequests:
            return False
        return True

    try:
        assert allowance.is_used_up_by(sum(await asyncio.gather(*[attempt(number % 2) for number in range(100)])))
    finally:
        await second.dispose()


async def test_a_wait_of_less_than_a_second_is_rounded_up(database: Database) -> None:
    """At 60 a minute no wait is longer than a second. A client told to wait 0 seconds would retry without a pause."""
    key = await key_of_tenant(database, "one-a-second", Quotas(requests_per_minute=60))
    refusal = await refusal_of(lambda: admit(database.engine, key))
    assert refusal.retry_after_seconds == 1


async def test_requests_of_a_key_count_against_the_keys_that_it_descends_from(
    database: Database, session: AsyncSession
) -> None:
    _, key = await create_key(session, "manager", rates=RateLimits(2, None))
    await session.commit()
    allowance, manager = Allowance(2), await admit(database.engine, key)  # the first of the two
    _, child_key = await create_key_as(session, manager, KeyRequest("child"))
    await session.commit()
    child = await admit(database.engine, child_key)  # the second
    _, grandchild_key = await create_key_as(session, child, KeyRequest("grandchild"))
    await session.commit()
    assert allowance.is_used_up_by(2 + await granted(database, grandchild_key, 30))
