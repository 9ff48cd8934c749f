"""The cost of authentication, rate limits and tenancy: messages to the database, counted by a trace of libpq."""

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.access.authentication import admit
from service.access.quotas import Quotas
from service.database.connection import Database, open_pool
from service.database.session import tenant_session
from tests.support.tenants import RATES, fill_tenant

ONE = text("SELECT 1")


@pytest.fixture
async def single_connection(database: Database) -> AsyncIterator[AsyncEngine]:
    """A pool of one connection, so that a trace of the connection holds every message."""
    engine = open_pool(database.logins.service, 1)
    yield engine
    await engine.dispose()


async def messages_of(engine: AsyncEngine, act: Callable[[], Awaitable[object]]) -> int:
    """Return how many messages the call sends for which it waits, at its second run, when statements are prepared."""
    await act()
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    with tempfile.TemporaryFile() as trace:
        driver.pgconn.trace(trace.fileno())
        await act()
        driver.pgconn.untrace()
        written = os.pread(trace.fileno(), 1 << 20, 0).decode()
    lines = [line.split("\t") for line in written.splitlines()]  # time, sender, length, kind, content
    return sum(line[1] == "F" and line[3] in ("Sync", "Query") for line in lines)


async def test_authentication_with_rate_limits_is_one_message(
    database: Database, single_connection: AsyncEngine
) -> None:
    for quotas in (Quotas(), RATES):
        tenant = await fill_tenant(database, quotas)
        assert await messages_of(single_connection, partial(admit, single_connection, tenant.key)) == 1


async def test_the_transaction_of_a_tenant_needs_no_more_messages_than_a_plain_one(
    database: Database, single_connection: AsyncEngine
) -> None:
    tenant = await fill_tenant(database)

    async def plain_transaction() -> None:
        async with single_connection.connect() as connection:
            await connection.execute(ONE)
            await connection.commit()

    async def tenant_transaction() -> None:
        async with tenant_session(single_connection, tenant.number) as session:
            await session.execute(ONE)
            await session.commit()

    plain = await messages_of(single_connection, plain_transaction)
    assert plain == 3  # BEGIN, the statement, COMMIT
    assert await messages_of(single_connection, tenant_transaction) == plain
