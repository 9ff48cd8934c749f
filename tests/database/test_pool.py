"""The connection pool: tenants take turns, none holds all connections, and statements have a deadline."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from service.database.connection import Database, open_pool
from service.database.failures import as_service_error
from service.database.pool import FairPool, usual_most_of_one
from service.database.statements import fetch_row
from service.errors import DatabaseUnavailable, StatementTimedOut
from service.turns import Turns, act_for
from tests.support.waiting import until

BUSY, QUIET, OTHER = 1, 2, 3


def turns_of(engine: AsyncEngine) -> Turns:
    assert isinstance(engine.pool, FairPool)
    return engine.pool.turns


@pytest.fixture
async def four(database: Database) -> AsyncIterator[AsyncEngine]:
    """A pool of four connections. A tenant may hold three of them."""
    engine = open_pool(database.logins.service, 4, most_of_one=3)
    yield engine
    await engine.dispose()


async def hold(engine: AsyncEngine, tenant: int, release: asyncio.Event, holding: list[int]) -> None:
    """Hold a connection of the pool until `release` is set."""
    act_for(tenant)
    async with engine.connect():
        holding.append(tenant)
        await release.wait()


async def until_waiting(engine: AsyncEngine, tasks: int) -> None:
    async def are_waiting() -> bool:
        return turns_of(engine).waiting() >= tasks

    await until(are_waiting)


async def test_a_tenant_does_not_take_the_last_connections(four: AsyncEngine) -> None:
    release, holding = asyncio.Event(), list[int]()
    busy = [asyncio.create_task(hold(four, BUSY, release, holding)) for _ in range(10)]
    await until_waiting(four, 7)

    async def are_open() -> bool:  # three tasks have a place, and open their connections
        return len(holding) == 3

    await until(are_open)
    act_for(QUIET)
    async with four.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
        assert (holding, turns_of(four).waiting()) == ([BUSY] * 3, 7)
    release.set()
    await asyncio.gather(*busy)
    assert turns_of(four).held == 0


async def test_connections_go_round_the_tenants_that_wait(database: Database) -> None:
    engine = open_pool(database.logins.service, 1)
    order: list[int] = []
    async with engine.connect():
        ended = asyncio.Event()
        ended.set()
        tasks = [asyncio.create_task(hold(engine, BUSY, ended, order)) for _ in range(10)]
        await until_waiting(engine, 10)
        tasks += [asyncio.create_task(hold(engine, tenant, ended, order)) for tenant in (QUIET, OTHER)]
        await until_waiting(engine, 12)
    await asyncio.gather(*tasks)
    await engine.dispose()
    assert order[:4] == [BUSY, QUIET, OTHER, BUSY]


async def test_a_connection_that_fails_or_is_lost_gives_its_place_back(database: Database, four: AsyncEngine) -> None:
    nowhere = open_pool(database.logins.service.set(host="127.0.0.1", port=1, query={}), 1)
    for _ in range(3):
        with pytest.raises(DBAPIError):
            async with nowhere.connect():
                pass
    assert turns_of(nowhere).held == 0
    for _ in range(5):
        async with four.connect() as connection:
            await connection.invalidate()
    assert turns_of(four).held == 0


async def test_a_canceled_wait_for_a_connection_takes_no_place(database: Database) -> None:
    engine = open_pool(database.logins.service, 1)
    async with engine.connect():
        waiting = asyncio.create_task(hold(engine, QUIET, asyncio.Event(), []))
        await until_waiting(engine, 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert (turns_of(engine).held, turns_of(engine).waiting()) == (0, 0)
    await engine.dispose()


async def test_a_pool_that_replaces_another_has_the_same_bounds(four: AsyncEngine) -> None:
    await four.dispose()
    assert (turns_of(four).places, turns_of(four).most_of_one) == (4, 3)


@pytest.mark.parametrize(("connections", "most"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (200, 150)])
def test_a_tenant_may_hold_all_but_a_quarter_of_the_connections(connections: int, most: int) -> None:
    assert usual_most_of_one(connections) == most


async def test_a_statement_that_takes_too_long_is_stopped_and_the_error_names_the_setting(database: Database) -> None:
    engine = open_pool(database.logins.service, 1, statement_timeout_seconds=0.01)
    with pytest.raises(StatementTimedOut, match="DATABASE_STATEMENT_TIMEOUT_SECONDS") as stopped:
        await fetch_row(engine, "SELECT pg_sleep(600)", {})
    assert (stopped.value.status, isinstance(stopped.value, DatabaseUnavailable)) == (504, True)
    with pytest.raises(DBAPIError) as failed:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(600)"))
    assert isinstance(as_service_error(failed.value), StatementTimedOut)
    await engine.dispose()


async def test_commands_and_jobs_have_no_deadline(database: Database) -> None:
    async with database.engine.connect() as connection:
        assert await connection.scalar(text("SHOW statement_timeout")) == "0"
