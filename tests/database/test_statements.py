"""Readings in one message: each is in its own tenant and transaction, and survives faults of the connection."""

import asyncio
import random

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.database.addresses import conninfo
from service.database.connection import Database
from service.database.session import tenant_session
from service.database.statements import fetch_row, fetch_rows, fetch_rows_in_transaction
from service.errors import DatabaseUnavailable
from tests.conftest import MakePool, new_tenant
from tests.support.waiting import until

TENANTS = 20
READINGS = 400
MINE = "SELECT tenant_id, name, current_setting('app.tenant') FROM gallery"
INSERT = (
    "INSERT INTO gallery (tenant_id, name, embedding_space, embedding_space_digest, dimension, metric,"
    " default_threshold) VALUES (%(tenant)s, %(name)s, 'x', 'x', 2, 'cosine', 0) RETURNING id"
)
BACKEND = "SELECT pg_backend_pid() AS number"


@pytest.fixture
def engine(make_pool: MakePool) -> AsyncEngine:
    """A pool of one connection."""
    return make_pool(1)


async def tenant_with_gallery(database: Database) -> int:
    number = await new_tenant(database)
    async with tenant_session(database.engine, number) as session:
        await fetch_rows_in_transaction(session, INSERT, {"tenant": number, "name": "a"})
        await session.commit()
    return number


async def test_interleaved_readings_return_only_rows_of_their_own_tenant(
    database: Database, make_pool: MakePool
) -> None:
    tenants = [await tenant_with_gallery(database) for _ in range(TENANTS)]
    engine = make_pool(3)
    answered = 0

    async def read(tenant: int, seed: int) -> None:
        nonlocal answered
        choice = random.Random(seed)  # noqa: S311 - when, not what
        async with tenant_session(engine, tenant) as session:
            if choice.random() < 0.2:
                async with asyncio.timeout(choice.uniform(0.0, 0.02)):
                    await fetch_rows(session, "SELECT pg_sleep(0.05)", {})
            if choice.random() < 0.2:
                await fetch_rows(session, "SELECT 1 / CAST(%(zero)s AS integer)", {"zero": 0})
            if choice.random() < 0.2:
                await fetch_rows(session, "SELECT nothing_like_this", {})
            assert await fetch_rows(session, MINE, {}) == [(tenant, "a", str(tenant))]
            answered += 1

    work = [read(tenants[number % TENANTS], number) for number in range(READINGS)]
    results = await asyncio.gather(*work, return_exceptions=True)
    assert [error for error in results if isinstance(error, AssertionError)] == []
    assert 50 < answered < READINGS
    kinds = {type(error) for error in results}
    assert {TimeoutError, psycopg.errors.DivisionByZero, psycopg.errors.UndefinedColumn} <= kinds
    for tenant in tenants:
        async with tenant_session(engine, tenant) as session:
            assert await fetch_rows(session, MINE, {}) == [(tenant, "a", str(tenant))]
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_reading_leaves_neither_a_transaction_nor_its_tenant(database: Database, engine: AsyncEngine) -> None:
    tenant = await tenant_with_gallery(database)
    async with tenant_session(engine, tenant) as session:
        ((before,),) = await fetch_rows(session, BACKEND, {})
        assert len(await fetch_rows(session, MINE, {})) == 1
        assert not session.in_transaction()
        async with engine.connect() as connection:  # the pool has one connection, and it was returned
            assert await connection.scalar(text(BACKEND)) == before
            assert await connection.scalar(text("SELECT current_setting('app.tenant', true)")) == ""
            assert await connection.scalar(text("SELECT count(*) FROM gallery")) == 0
            assert await connection.scalar(text("SHOW enable_seqscan")) == "on"


async def test_a_reading_sees_what_its_transaction_has_not_committed(database: Database, engine: AsyncEngine) -> None:
    tenant = await tenant_with_gallery(database)
    async with tenant_session(engine, tenant) as session:
        await fetch_rows_in_transaction(session, INSERT, {"tenant": tenant, "name": "b"})
        assert sorted(row[1] for row in await fetch_rows(session, MINE, {})) == ["a", "b"]
        await session.rollback()
        assert [row[1] for row in await fetch_rows(session, MINE, {})] == ["a"]


async def test_every_reading_has_the_one_plan_of_its_statement(database: Database, engine: AsyncEngine) -> None:
    tenant = await tenant_with_gallery(database)
    query = "SELECT name FROM gallery WHERE tenant_id = %(tenant)s AND name = %(name)s"
    plans = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE %(like)s"
    async with tenant_session(engine, tenant) as session:
        for _ in range(7):
            assert await fetch_rows(session, query, {"tenant": tenant, "name": "a"}) == [("a",)]
        assert await fetch_rows(session, plans, {"like": "SELECT name FROM gallery%"}) == [(7, 0)]


async def test_after_an_error_the_same_connection_reads_on(database: Database, engine: AsyncEngine) -> None:
    tenant = await tenant_with_gallery(database)
    async with tenant_session(engine, tenant) as session:
        before = await fetch_rows(session, BACKEND, {})
        with pytest.raises(psycopg.errors.DivisionByZero):
            await fetch_rows(session, "SELECT 1 / CAST(%(zero)s AS integer)", {"zero": 0})
        with pytest.raises(psycopg.errors.UndefinedColumn):
            await fetch_rows(session, "SELECT nothing_like_this", {})
        assert await fetch_rows(session, BACKEND, {}) == before


async def test_statements_that_the_server_has_dropped_are_prepared_again(
    database: Database, engine: AsyncEngine
) -> None:
    tenant = await tenant_with_gallery(database)
    async with tenant_session(engine, tenant) as session:
        before = await fetch_rows(session, BACKEND, {})
        for _ in range(7):
            await fetch_rows_in_transaction(session, "SELECT CAST(%(one)s AS integer)", {"one": 1})
        await session.rollback()  # psycopg deallocates all statements
        assert await fetch_rows(session, BACKEND, {}) == before
        await (await session.connection()).exec_driver_sql("DEALLOCATE ALL")
        await session.rollback()
        assert await fetch_rows(session, BACKEND, {}) == before


async def test_a_cancelled_reading_never_answers_another_caller(
    database: Database, engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection is discarded before the pool tries to roll it back, which would log an error."""
    tenant = await tenant_with_gallery(database)
    async with tenant_session(engine, tenant) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await fetch_rows(session, "SELECT 'too late', pg_sleep(6000)", {})
        assert await fetch_rows(session, MINE, {}) == [(tenant, "a", str(tenant))]
    assert [record.message for record in caplog.records if record.name.startswith("sqlalchemy")] == []


async def backends_of(database: Database, engine: AsyncEngine, count: int) -> list[int]:
    """Process ids of the server for `count` connections of the pool, after all of them have read.

    A lock holds the readings until all of them run, so that each has a connection of its own.
    """
    reading = "SELECT pg_backend_pid() AS number, pg_advisory_xact_lock_shared(4711)"
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted")
    async with database.engine.connect() as holder:
        await holder.execute(text("SELECT pg_advisory_xact_lock(4711)"))
        readings = asyncio.gather(*(fetch_row(engine, reading, {}) for _ in range(count)))

        async def all_wait() -> bool:
            return int(await holder.scalar(waiting) or 0) == count

        await until(all_wait)
        await holder.rollback()
    numbers = [row.number for row in await readings if row]
    assert len(set(numbers)) == count
    return numbers


async def end_connections(database: Database, engine: AsyncEngine, count: int) -> None:
    """End the server's side of `count` connections of the pool, after all of them have read."""
    numbers = await backends_of(database, engine, count)
    async with await psycopg.AsyncConnection.connect(
        conninfo(database.logins.administrator),
        autocommit=True,
    ) as administrator:
        for number in numbers:
            await administrator.execute("SELECT pg_terminate_backend(%s, 5000)", [number])


async def test_connections_lost_since_the_last_reading_are_replaced_without_an_error(
    database: Database, make_pool: MakePool
) -> None:
    tenant = await tenant_with_gallery(database)
    engine = make_pool(3)
    await end_connections(database, engine, 3)
    async with tenant_session(engine, tenant) as session:
        assert await fetch_rows(session, MINE, {}) == [(tenant, "a", str(tenant))]
    await end_connections(database, engine, 3)
    row = await fetch_row(engine, "SELECT CAST(%(number)s AS integer) AS number", {"number": 7})
    assert row is not None
    assert row.number == 7


async def test_a_connection_lost_at_its_first_reading_is_an_unavailable_database(
    database: Database, engine: AsyncEngine
) -> None:
    tenant = await tenant_with_gallery(database)
    async with tenant_session(engine, tenant) as session:
        with pytest.raises(DatabaseUnavailable):
            await fetch_rows(session, "SELECT pg_terminate_backend(pg_backend_pid())", {})
        assert len(await fetch_rows(session, MINE, {})) == 1


async def test_a_statement_without_rows_has_no_row(engine: AsyncEngine) -> None:
    assert await fetch_row(engine, "SELECT 1 AS number WHERE CAST(%(it)s AS boolean)", {"it": False}) is None
