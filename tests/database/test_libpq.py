"""The exchange in one message and psycopg's pipeline give the same results; a pool checks which of them it can use."""

import asyncio
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.database import libpq
from service.database.addresses import conninfo
from service.database.connection import Database
from service.database.libpq import ONE_MESSAGE, PSYCOPG_PIPELINE, Answer, Protocol, check_protocol
from service.database.session import tenant_session
from service.database.statements import fetch_row, fetch_rows, fetch_rows_in_transaction
from service.errors import DatabaseUnavailable
from tests.conftest import MakePool
from tests.database.test_statements import backends_of
from tests.support.waiting import until

TENANT = "SELECT current_setting('app.tenant'), current_setting('enable_seqscan')"
BACKEND = "SELECT pg_backend_pid() AS number"


@pytest.fixture(params=[ONE_MESSAGE, PSYCOPG_PIPELINE], ids=["one message", "psycopg's pipeline"])
def engine(request: pytest.FixtureRequest, make_pool: MakePool) -> AsyncEngine:
    """A pool of one connection for each of the two protocols."""
    engine = make_pool(1)
    libpq._protocols[engine.sync_engine] = request.param
    return engine


async def test_a_reading_is_bound_to_its_tenant_and_leaves_nothing_behind(engine: AsyncEngine, tenant_id: int) -> None:
    async with tenant_session(engine, tenant_id) as session:
        for _ in range(3):
            assert await fetch_rows(session, TENANT, {}) == [(str(tenant_id), "off")]
            assert not session.in_transaction()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT current_setting('app.tenant', true)")) == ""
        assert await connection.scalar(text("SHOW enable_seqscan")) == "on"


async def test_a_transaction_is_bound_to_its_tenant_and_can_be_rolled_back(engine: AsyncEngine, tenant_id: int) -> None:
    insert = (
        "INSERT INTO gallery (tenant_id, name, embedding_space, embedding_space_digest, dimension, metric,"
        " default_threshold) VALUES (%(tenant)s, 'a', 'x', 'x', 2, 'cosine', 0) RETURNING name"
    )
    async with tenant_session(engine, tenant_id) as session:
        assert await fetch_rows_in_transaction(session, insert, {"tenant": tenant_id}) == [("a",)]
        assert await fetch_rows(session, TENANT, {}) == [(str(tenant_id), "off")]
        await session.rollback()
        assert await fetch_rows(session, "SELECT name FROM gallery", {}) == []
        await fetch_rows_in_transaction(session, insert, {"tenant": tenant_id})
        await session.commit()
        assert await fetch_rows(session, "SELECT name FROM gallery", {}) == [("a",)]


async def test_after_an_error_the_same_connection_reads_on(engine: AsyncEngine, tenant_id: int) -> None:
    async with tenant_session(engine, tenant_id) as session:
        before = await fetch_rows(session, BACKEND, {})
        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero):
                await fetch_rows(session, "SELECT 1 / CAST(%(zero)s AS integer)", {"zero": 0})
            with pytest.raises(psycopg.errors.UndefinedColumn):
                await fetch_rows(session, "SELECT nothing_like_this", {})
        assert await fetch_rows(session, BACKEND, {}) == before


async def test_a_row_has_the_names_of_its_columns(engine: AsyncEngine) -> None:
    row = await fetch_row(engine, "SELECT CAST(%(a)s AS integer) AS first, 'b' AS second", {"a": 1})
    assert row is not None
    assert (row.first, row.second) == (1, "b")


async def test_a_cancelled_statement_is_stopped_at_the_server(engine: AsyncEngine, database: Database) -> None:
    """A server notices a closed socket only after the statement, and this statement would take an hour."""
    running = "SELECT count(*) AS count FROM pg_stat_activity WHERE query LIKE %(like)s AND state = 'active'"
    values = {"like": "SELECT 'given up', pg_sleep%"}

    async def is_running() -> bool:
        row = await fetch_row(database.engine, running, values)
        assert row is not None
        return bool(row.count)

    async def is_stopped() -> bool:
        return not await is_running()

    waiting = asyncio.create_task(fetch_row(engine, "SELECT 'given up', pg_sleep(6000)", {}))
    await until(is_running)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(is_stopped)
    assert await fetch_row(engine, BACKEND, {})


async def test_a_transaction_on_a_lost_connection_is_an_unavailable_database_once(
    database: Database, make_pool: MakePool, tenant_id: int
) -> None:
    """The pool's other connections, lost at the same moment, are replaced without another error."""
    engine = make_pool(3)
    numbers = await backends_of(database, engine, 3)
    url = conninfo(database.logins.administrator)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as administrator:
        for number in numbers:
            await administrator.execute("SELECT pg_terminate_backend(%s, 5000)", [number])
    async with tenant_session(engine, tenant_id) as session:
        with pytest.raises(DatabaseUnavailable):
            await session.execute(text("SELECT 1"))
    for _ in range(3):
        async with tenant_session(engine, tenant_id) as session:
            await session.execute(text("SELECT 1"))


async def test_the_exchange_in_one_message_works_with_this_psycopg(database: Database) -> None:
    assert await check_protocol(ONE_MESSAGE, database.engine.sync_engine) is ONE_MESSAGE
    assert await check_protocol(PSYCOPG_PIPELINE, database.engine.sync_engine) is PSYCOPG_PIPELINE


async def _missing(*_: Any) -> Any:
    raise AttributeError("psycopg has no such function")


async def _without_tenant(driver: libpq.Driver, info: dict[Any, Any], statements: Any) -> Answer:
    return await ONE_MESSAGE.exchange(driver, info, statements[1:])


async def _without_rows(*given: Any) -> Answer:
    return (await ONE_MESSAGE.exchange(*given))._replace(rows=[])


async def _left_open(driver: libpq.Driver, info: dict[Any, Any], statements: Any) -> Answer:
    answer = await ONE_MESSAGE.exchange(driver, info, statements)
    driver.pgconn.enter_pipeline_mode()
    return answer


async def _begin_without_tenant(driver: libpq.Driver, _: str) -> None:
    await driver.execute("BEGIN")


@pytest.mark.parametrize(
    "broken",
    [
        ONE_MESSAGE._replace(exchange=_missing),
        ONE_MESSAGE._replace(exchange=_without_tenant),
        ONE_MESSAGE._replace(exchange=_without_rows),
        ONE_MESSAGE._replace(exchange=_left_open),
        ONE_MESSAGE._replace(begin=_missing),
        ONE_MESSAGE._replace(begin=_begin_without_tenant),
    ],
    ids=["missing", "no tenant", "no rows", "left open", "no begin", "begin without tenant"],
)
async def test_a_pool_falls_back_to_psycopgs_pipeline_if_the_check_fails(database: Database, broken: Protocol) -> None:
    assert await check_protocol(broken, database.engine.sync_engine) is PSYCOPG_PIPELINE


async def test_a_pool_is_checked_once_however_many_readings_begin_together(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, tenant_id: int
) -> None:
    checked: list[Protocol] = []

    async def check(protocol: Protocol, engine: Any) -> Protocol:
        checked.append(protocol)
        return await check_protocol(protocol, engine)

    monkeypatch.setattr(libpq, "check_protocol", check)
    engine = make_pool(2)

    async def read() -> None:
        async with tenant_session(engine, tenant_id) as session:
            await fetch_rows(session, TENANT, {})

    await asyncio.gather(*(read() for _ in range(200)))
    assert checked == [ONE_MESSAGE]
