"""Behind PgBouncer in transaction mode, each transaction may run on another connection of the server."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.database import libpq
from service.database.addresses import conninfo
from service.database.connection import Database, open_database, open_pool
from service.database.libpq import ONE_POOLED_MESSAGE, protocol_of
from service.database.logins import is_pooled
from service.database.session import tenant_session
from service.database.statements import fetch_row, fetch_rows
from service.errors import InvalidSettings
from service.settings import Settings
from tests.support.pooler import StartPooler

SERVER_CONNECTIONS = 2


@pytest.fixture
async def pooled(database: Database, start_pooler: StartPooler) -> AsyncIterator[list[AsyncEngine]]:
    """Pools of three processes, which share two connections of the server."""
    address = start_pooler(database.logins.service, SERVER_CONNECTIONS)
    engines = [open_pool(address, 4, pooled=True) for _ in range(3)]
    yield engines
    for engine in engines:
        await engine.dispose()


def test_a_pooler_is_found_by_its_process_number(database: Database, start_pooler: StartPooler) -> None:
    assert not is_pooled(database.logins.service)
    assert is_pooled(start_pooler(database.logins.service, 1))


async def test_readings_of_several_processes_get_the_answers_to_their_own_statements(
    pooled: list[AsyncEngine], tenant_id: int
) -> None:
    """Each process begins with another statement, so that numbered names would mean another statement in each."""

    async def read(engine: AsyncEngine, number: int) -> list[tuple[object, ...]]:
        query = f"SELECT {number}, CAST(%(given)s AS integer), current_setting('app.tenant')"
        async with tenant_session(engine, tenant_id) as session:
            return [tuple(row) for row in await fetch_rows(session, query, {"given": number + 1000})]

    for first in range(3):
        numbers = [(engine, (first + place + turn) % 5) for place, engine in enumerate(pooled) for turn in range(10)]
        answers = await asyncio.gather(*(read(engine, number) for engine, number in numbers))
        assert answers == [[(number, number + 1000, str(tenant_id))] for _, number in numbers]
    assert {await protocol_of(engine.sync_engine) for engine in pooled} == {ONE_POOLED_MESSAGE}


async def test_transactions_of_several_processes_do_not_mix(pooled: list[AsyncEngine], tenant_id: int) -> None:
    async def transact(engine: AsyncEngine) -> set[tuple[str, ...]]:
        found = set()
        async with tenant_session(engine, tenant_id) as session:
            for _ in range(8):  # psycopg would prepare a statement after the fifth time
                settings = "app.tenant", "jit", "idle_in_transaction_session_timeout"
                columns = ", ".join(f"current_setting('{name}')" for name in settings)
                found.add(tuple((await session.execute(text(f"SELECT {columns}"))).one()))
        return found

    answers = await asyncio.gather(*(transact(engine) for engine in pooled for _ in range(8)))
    assert answers == [{(str(tenant_id), "off", "5min")}] * 24


async def test_a_setting_of_a_transaction_does_not_reach_the_next(pooled: list[AsyncEngine], tenant_id: int) -> None:
    async with tenant_session(pooled[0], tenant_id) as session:
        await session.execute(text("SELECT 1"))
    async with pooled[1].connect() as connection:
        assert await connection.scalar(text("SELECT current_setting('app.tenant', true)")) in ("", None)
        assert await connection.scalar(text("SHOW enable_seqscan")) == "on"


async def test_a_statement_that_the_server_has_lost_is_prepared_again(
    pooled: list[AsyncEngine], database: Database
) -> None:
    query = "SELECT CAST(%(given)s AS integer) AS given, pg_backend_pid() AS number"
    row = await fetch_row(pooled[0], query, {"given": 1})
    assert row is not None
    async with await psycopg.AsyncConnection.connect(
        conninfo(pooled[0].url), autocommit=True, prepare_threshold=None
    ) as other:
        for _ in range(SERVER_CONNECTIONS):
            await other.execute("DEALLOCATE ALL")
    for given in range(5):
        row = await fetch_row(pooled[0], query, {"given": given})
        assert row is not None
        assert row.given == given


async def test_an_error_leaves_the_connection_usable(pooled: list[AsyncEngine]) -> None:
    for _ in range(3):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await fetch_row(pooled[0], "SELECT 1 / CAST(%(zero)s AS integer)", {"zero": 0})
    assert await fetch_row(pooled[0], "SELECT 1 AS one", {})


def test_equal_texts_have_equal_names_and_different_texts_different_ones() -> None:
    texts = [f"SELECT {number}" for number in range(1000)]
    assert len({libpq.numbered(each).name for each in texts}) == 1000
    assert libpq.numbered("SELECT %(a)s").name == libpq.numbered("SELECT %(b)s").name


def test_a_pooler_in_the_place_of_the_server_is_refused(database: Database, start_pooler: StartPooler) -> None:
    address = start_pooler(database.logins.administrator, 1)
    settings = Settings(_env_file=None, database_url=conninfo(address), encoder="fake")
    with pytest.raises(InvalidSettings, match="DATABASE_SERVICE_URL"):
        open_database(settings)


async def test_opening_the_database_finds_the_pooler_of_the_service(
    database: Database, start_pooler: StartPooler
) -> None:
    address = start_pooler(database.logins.service, 1)
    settings = Settings(
        _env_file=None,
        database_url=conninfo(database.logins.administrator),
        database_service_url=conninfo(address),
        encoder="fake",
    )
    async with open_database(settings) as opened:
        assert opened.logins.service_is_pooled
        assert await fetch_row(opened.engine, "SELECT 1 AS one", {})
