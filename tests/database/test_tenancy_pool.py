"""Fifty tenants over five connections, interleaved, with aborts and timeouts: nobody ever sees a foreign row."""

import asyncio
import contextlib
import random
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.database.connection import Database
from service.database.session import tenant_session
from service.database.statements import fetch_rows, fetch_rows_in_transaction
from service.database.types import metadata
from service.errors import DatabaseUnavailable
from tests.conftest import MakePool
from tests.support.tenants import FilledTenant, fill_tenant

TENANTS = 50
REQUESTS = 1_000
CONNECTIONS = 5
AT_ONCE = 40
TABLES = [table.name for table in metadata.sorted_tables if "tenant_id" in table.c]


@dataclass
class Tally:
    """The outcomes of the requests."""

    answered: int = 0
    aborted: int = 0
    timed_out: int = 0
    failed: int = 0
    rows: int = 0
    foreign: int = 0


async def look(session: AsyncSession, tenant_id: int, tally: Tally) -> None:
    """Select all rows of every table without any filter, by both paths that statements take."""
    for number, table in enumerate(TABLES):
        query = f"SELECT tenant_id FROM {table}"
        if (number + tenant_id) % 2:
            seen = [row[0] for row in await fetch_rows_in_transaction(session, query, {})]
        else:
            seen = list((await session.execute(text(query))).scalars())
        tally.rows += len(seen)
        tally.foreign += sum(1 for number in seen if number != tenant_id)


async def read(session: AsyncSession, tenant_id: int, tally: Tally) -> None:
    """Do the same with readings that are transactions of their own."""
    for table in TABLES:
        seen = [row[0] for row in await fetch_rows(session, f"SELECT tenant_id FROM {table}", {})]
        tally.rows += len(seen)
        tally.foreign += sum(1 for number in seen if number != tenant_id)


async def request(engine: AsyncEngine, tenant: FilledTenant, ending: str, tally: Tally) -> None:
    """Run one request: it succeeds, is aborted by its client, times out, fails or loses its connection."""
    async with tenant_session(engine, tenant.number) as session:
        await read(session, tenant.number, tally)
        await look(session, tenant.number, tally)
        if ending == "time out":
            await session.execute(text("SET LOCAL statement_timeout = 5"))
        if ending in {"abort", "time out"}:
            await session.execute(text("SELECT pg_sleep(0.2)"))
        if ending == "fail":
            await session.execute(text("SELECT 1 / 0"))
        if ending == "lose":
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        await look(session, tenant.number, tally)
        await (session.commit() if ending == "commit" else session.rollback())


async def run(engine: AsyncEngine, tenant: FilledTenant, ending: str, tally: Tally, gate: asyncio.Semaphore) -> None:
    async with gate:
        try:
            if ending == "abort":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(random.uniform(0.001, 0.05)):  # noqa: S311 - when, not what
                        await request(engine, tenant, ending, tally)
                tally.aborted += 1
                return
            await request(engine, tenant, ending, tally)
            tally.answered += 1
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == "57014":
                tally.timed_out += 1
            else:
                tally.failed += 1
        except DatabaseUnavailable:
            tally.failed += 1


async def test_fifty_tenants_over_five_connections_see_no_foreign_row(database: Database, make_pool: MakePool) -> None:
    tenants = [await fill_tenant(database) for _ in range(TENANTS)]
    engine = make_pool(CONNECTIONS)
    chance = random.Random(20260131)  # noqa: S311 - the same order every time
    endings = chance.choices(
        ["commit", "rollback", "abort", "time out", "fail", "lose"], [8, 4, 4, 2, 2, 1], k=REQUESTS
    )
    tally, gate = Tally(), asyncio.Semaphore(AT_ONCE)
    work = [run(engine, chance.choice(tenants), ending, tally, gate) for ending in endings]
    await asyncio.gather(*work)
    assert engine.pool.size() == CONNECTIONS  # type: ignore[attr-defined]
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    print(tally)
    assert tally.answered + tally.aborted + tally.timed_out + tally.failed == REQUESTS
    assert min(tally.aborted, tally.timed_out, tally.failed) > 20
    assert tally.rows > REQUESTS * len(TABLES)
    assert tally.foreign == 0
