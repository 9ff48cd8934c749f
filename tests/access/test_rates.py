"""Rate limits of tenants and keys: granted up to the limit, refilled evenly, shared by all processes."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from service.access.authentication import admit, charge
from service.access.keys import create_key
from service.access.operator import operator_transaction
from service.access.quotas import CostClass, Quotas, RateLimits
from service.access.tenants import change_quotas, create_tenant
from service.database.connection import Database, connect
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


async def granted(database: Database, key: str, attempts: int, cost_class: CostClass = "request") -> int:
    """Return how many of a number of concurrent attempts are granted."""

    async def attempt() -> bool:
        try:
            await admit(database.engine, key, cost_class)
        except TooManyRequests:
            return False
        return True

    return sum(await asyncio.gather(*[attempt() for _ in range(attempts)]))


async def test_without_a_quota_nothing_is_counted(database: Database, session: AsyncSession) -> None:
    _, key = await create_key(session, "door")
    await session.commit()
    assert await granted(database, key, 50) == 50
    assert (await session.execute(text("SELECT count(*) FROM rate_limit"))).scalar_one() == 0


async def test_a_tenant_is_granted_its_rate_and_no_request_more(database: Database) -> None:
    key = await key_of_tenant(database, "rate-of-two", Quotas(requests_per_minute=2))
    assert await granted(database, key, 30) == 2


async def test_cost_classes_are_counted_apart(database: Database) -> None:
    key = await key_of_tenant(database, "two-classes", Quotas(requests_per_minute=3, inferences_per_minute=2))
    assert await granted(database, key, 10, "inference") == 2
    assert await granted(database, key, 30) == 3


async def test_a_refusal_says_when_to_come_back(database: Database) -> None:
    key = await key_of_tenant(database, "one-a-minute", Quotas(inferences_per_minute=2))
    await granted(database, key, 2, "inference")
    with pytest.raises(TooManyRequests) as refusal:
        await admit(database.engine, key, "inference")
    assert 1 <= refusal.value.retry_after_seconds <= 30


async def test_an_allowance_refills_evenly(database: Database) -> None:
    key = await key_of_tenant(database, "ten-a-minute", Quotas(requests_per_minute=10))
    caller = await admit(database.engine, key)
    await granted(database, key, 20)
    with connect(database.logins.administrator) as connection:  # as if half a minute had passed
        past = "UPDATE rate_limit SET full_at = full_at - interval '30 seconds' WHERE tenant_id = %s"
        connection.execute(past, [caller.tenant_id])
    assert 5 <= await granted(database, key, 20) <= 10  # a slow machine lets more of it refill meanwhile


async def test_all_keys_of_a_tenant_share_its_rate(database: Database) -> None:
    key = await key_of_tenant(database, "shared-rate", Quotas(requests_per_minute=3))
    caller = await admit(database.engine, key)
    async with tenant_session(database.engine, caller.tenant_id) as session:
        _, second = await create_key(session, "second")
        await session.commit()
    assert await granted(database, key, 20) + await granted(database, second, 20) == 2


async def test_a_key_may_have_a_rate_of_its_own(database: Database) -> None:
    key = await key_of_tenant(database, "own-rate", Quotas(requests_per_minute=3), RateLimits(requests_per_minute=2))
    assert await granted(database, key, 20) == 2
    async with operator_transaction(database.engine) as connection:
        await change_quotas(connection, "own-rate", Quotas())
    with pytest.raises(TooManyRequests):
        await admit(database.engine, key)


async def test_one_tenants_rate_is_no_concern_of_another(database: Database, session: AsyncSession) -> None:
    exhausted = await key_of_tenant(database, "exhausted", Quotas(requests_per_minute=1))
    await granted(database, exhausted, 5)
    other = await key_of_tenant(database, "fresh", Quotas(requests_per_minute=2))
    assert await granted(database, other, 9) == 2


async def test_further_pictures_of_a_request_are_charged(database: Database) -> None:
    key = await key_of_tenant(database, "many-pictures", Quotas(inferences_per_minute=10))
    caller = await admit(database.engine, key, "inference")
    await charge(database.engine, caller, "inference", 9)
    with pytest.raises(TooManyRequests):
        await charge(database.engine, caller, "inference", 1)


async def test_a_request_dearer_than_a_minutes_allowance_takes_all_of_it(database: Database) -> None:
    key = await key_of_tenant(database, "dear", Quotas(inferences_per_minute=10, requests_per_minute=100))
    caller = await admit(database.engine, key)
    await charge(database.engine, caller, "inference", 200)
    with pytest.raises(TooManyRequests) as refusal:
        await charge(database.engine, caller, "inference", 200)
    assert 1 <= refusal.value.retry_after_seconds <= 60


async def test_the_rate_holds_over_several_processes(database: Database) -> None:
    """Two pools that share only the database represent two processes."""
    key = await key_of_tenant(database, "two-processes", Quotas(requests_per_minute=3))
    second = create_async_engine(database.logins.service, pool_size=4)

    async def attempt(engine_number: int) -> bool:
        try:
            await admit(database.engine if engine_number else second, key)
        except TooManyRequests:
            return False
        return True

    try:
        assert sum(await asyncio.gather(*[attempt(number % 2) for number in range(100)])) == 3
    finally:
        await second.dispose()


async def test_a_wait_of_less_than_a_second_is_rounded_up(database: Database) -> None:
    """At 60 a minute no wait is longer than a second. A client told to wait 0 seconds would retry without a pause."""
    key = await key_of_tenant(database, "one-a-second", Quotas(requests_per_minute=60))

    async def exhaust() -> None:
        while True:
            await admit(database.engine, key)

    with pytest.raises(TooManyRequests) as refusal:
        await exhaust()
    assert refusal.value.retry_after_seconds == 1
