"""Row-level security of sessions: without the statements' own filters, only the policies separate tenants."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Table, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import Database, open_pool
from service.database.session import release_connection, tenant_session
from service.database.statements import fetch_row
from service.database.types import metadata
from service.jobs.jobs import create_job
from tests.support.tenants import FilledTenant, fill_tenant
from tests.support.waiting import until

TENANT_TABLES = [table for table in metadata.sorted_tables if "tenant_id" in table.c]
every_table = pytest.mark.parametrize("table", TENANT_TABLES, ids=lambda table: table.name)


@pytest.fixture(scope="module")
async def ada(database: Database) -> FilledTenant:
    """A tenant with a row in every table."""
    return await fill_tenant(database)


@pytest.fixture(scope="module")
async def bob(database: Database) -> FilledTenant:
    """Another tenant, with the same names for everything."""
    return await fill_tenant(database)


async def tenants_seen(database: Database, tenant_id: int, table: Table) -> set[int]:
    """Return the tenants whose rows a session sees if it selects all rows."""
    async with tenant_session(database.engine, tenant_id) as session:
        return set((await session.execute(text(f"SELECT tenant_id FROM {table.name}"))).scalars())


@every_table
async def test_a_session_sees_only_rows_of_its_tenant(
    database: Database, ada: FilledTenant, bob: FilledTenant, table: Table
) -> None:
    assert await tenants_seen(database, ada.number, table) == {ada.number}
    assert await tenants_seen(database, bob.number, table) == {bob.number}


@every_table
async def test_a_session_without_a_tenant_sees_nothing(database: Database, ada: FilledTenant, table: Table) -> None:
    async with database.engine.connect() as connection:
        for _ in range(2):  # the setting is NULL before the first transaction with a tenant, and '' after one
            assert (await connection.execute(text(f"SELECT count(*) FROM {table.name}"))).scalar_one() == 0
            await connection.execute(
                text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": str(ada.number)}
            )
            assert (await connection.execute(text(f"SELECT count(*) FROM {table.name}"))).scalar_one() == 1
            await connection.rollback()


@every_table
async def test_rows_of_another_tenant_cannot_be_changed_or_deleted(
    database: Database, ada: FilledTenant, bob: FilledTenant, table: Table
) -> None:
    statements = [
        f"UPDATE {table.name} SET tenant_id = tenant_id WHERE tenant_id = :other",
        f"DELETE FROM {table.name} WHERE tenant_id = :other",
    ]
    for statement in statements:
        async with tenant_session(database.engine, ada.number) as session:
            try:
                changed = await session.execute(text(statement), {"other": bob.number})
            except ProgrammingError as refusal:
                assert "permission denied" in str(refusal)  # noqa: PT017 - either is right
                continue
            assert changed.rowcount == 0  # type: ignore[attr-defined]


@every_table
async def test_no_row_can_be_moved_to_another_tenant(
    database: Database, ada: FilledTenant, bob: FilledTenant, table: Table
) -> None:
    columns = ", ".join(column.name for column in table.c if column.name != "tenant_id")
    into = f"INSERT INTO {table.name} (tenant_id, {columns}) OVERRIDING SYSTEM VALUE"
    copied = f"{into} SELECT :other, {columns} FROM {table.name}"
    moved = f"UPDATE {table.name} SET tenant_id = :other"
    for statement in (copied, moved):
        async with tenant_session(database.engine, ada.number) as session:
            with pytest.raises(DBAPIError, match=r"row-level security|permission denied"):
                await session.execute(text(statement), {"other": bob.number})


async def test_a_reference_to_another_tenants_row_is_refused(
    database: Database, ada: FilledTenant, bob: FilledTenant
) -> None:
    """Foreign keys are checked without row-level security; they stay inside the tenant because they contain its key."""
    async with tenant_session(database.engine, bob.number) as session:
        galleries = (await session.execute(text("SELECT id FROM gallery"))).scalars().all()
    async with tenant_session(database.engine, ada.number) as session:
        statement = text("INSERT INTO person (tenant_id, gallery_id, id, name) VALUES (:own, :gallery, 1, 'x')")
        with pytest.raises(DBAPIError, match="foreign key"):
            await session.execute(statement, {"own": ada.number, "gallery": galleries[0]})


@pytest.mark.parametrize("after", ["commit", "rollback", "failure"])
async def test_the_tenant_ends_with_its_transaction(database: Database, ada: FilledTenant, after: str) -> None:
    async with tenant_session(database.engine, ada.number) as session:
        connection = await session.connection()
        backend = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        if after == "failure":
            with pytest.raises(DBAPIError):
                await session.execute(text("SELECT 1 / 0"))
        await (session.commit() if after == "commit" else session.rollback())
        assert connection.closed
    seen = {}
    async with database.engine.connect() as one:
        seen[(await one.execute(text("SELECT pg_backend_pid()"))).scalar_one()] = (
            await one.execute(text("SELECT current_setting('app.tenant', true)"))
        ).scalar_one()
    assert seen.get(backend, "") in {"", None}


async def test_no_connection_is_taken_before_the_first_query(database: Database, ada: FilledTenant) -> None:
    checked_out: Callable[[], int] = database.engine.pool.checkedout  # type: ignore[attr-defined]
    before = checked_out()
    async with tenant_session(database.engine, ada.number) as session:
        assert checked_out() == before
        await session.execute(text("SELECT 1"))
        assert checked_out() == before + 1
        await session.rollback()
        assert checked_out() == before


async def test_the_queue_holds_numbers_and_nothing_else_of_a_tenant(database: Database, ada: FilledTenant) -> None:
    """procrastinate's tables have no tenant, so every session sees their rows: see docs/security.md."""
    async with tenant_session(database.engine, ada.number) as session:
        await create_job(session, "nothing", {"gallery": "staff", "name": ada.name}, one_at_a_time="import into 7")
        rows = (await session.execute(text("SELECT to_jsonb(j) AS job FROM procrastinate_jobs j"))).scalars().all()
    own = [row for row in rows if row["args"].get("tenant_id") == ada.number]  # rolled back before a worker sees it
    assert len(own) == 1
    assert set(own[0]["args"]) == {"tenant_id", "number"}
    assert all(isinstance(value, int) for value in own[0]["args"].values())
    assert ada.name not in str(own[0])


async def test_releasing_gives_the_connection_back_and_the_session_can_go_on(session: AsyncSession) -> None:
    pool: Any = session.get_bind().engine.pool
    before = pool.checkedout()
    await release_connection(session)  # has none
    await session.execute(text("SELECT 1"))
    assert pool.checkedout() == before + 1
    await release_connection(session)
    assert (pool.checkedout(), session.in_transaction()) == (before, False)
    assert await session.scalar(text("SELECT 1")) == 1


async def test_a_session_with_uncommitted_writes_is_not_released(session: AsyncSession) -> None:
    job = await create_job(session, "nothing", {})
    with pytest.raises(RuntimeError, match="uncommitted"):
        await release_connection(session)
    assert await session.scalar(text("SELECT count(*) FROM job")) == 1
    await session.commit()
    await session.execute(text("UPDATE job SET done = 1 WHERE id = :number"), {"number": job.number})
    with pytest.raises(RuntimeError, match="uncommitted"):
        await release_connection(session)
    await session.rollback()
    await session.execute(text("DELETE FROM job WHERE id = :number"), {"number": job.number})
    with pytest.raises(RuntimeError, match="uncommitted"):
        await release_connection(session)


async def test_a_transaction_of_a_request_that_does_nothing_is_ended(database: Database, tenant_id: int) -> None:
    engine = open_pool(database.logins.service, 1, idle_seconds=1)
    running = "SELECT count(*) AS count FROM pg_stat_activity WHERE pid = %(pid)s"
    session = tenant_session(engine, tenant_id)
    pid = await session.scalar(text("SELECT pg_backend_pid()"))

    async def is_ended() -> bool:
        row = await fetch_row(database.engine, running, {"pid": pid})
        assert row is not None
        return bool(row.count == 0)

    await until(is_ended)
    with pytest.raises(OperationalError):
        await session.execute(text("SELECT 1"))
    await session.close()
    async with tenant_session(engine, tenant_id) as session:
        assert await session.scalar(text("SELECT 1")) == 1
    await engine.dispose()


async def test_only_transactions_of_jobs_may_pause_for_long(database: Database, tenant_id: int) -> None:
    jobs = database.open_job_pool(1)
    setting = text("SELECT current_setting('idle_in_transaction_session_timeout')")
    try:
        async with tenant_session(database.engine, tenant_id) as request, tenant_session(jobs, tenant_id) as job:
            assert [await session.scalar(setting) for session in (request, job)] == ["5min", "0"]
    finally:
        await jobs.dispose()
