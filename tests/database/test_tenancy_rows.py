"""Readings stay in their tenant in every state: first in a transaction, later in it, aborted, failed."""

import asyncio
import random

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.database.connection import Database
from service.database.session import tenant_session
from service.database.statements import fetch_rows_in_transaction
from service.errors import DatabaseUnavailable
from tests.conftest import MakePool, new_tenant

TENANTS = 20
REQUESTS = 400
MINE = "SELECT tenant_id, current_setting('app.tenant') FROM gallery"


@pytest.fixture
async def tenants(database: Database) -> list[int]:
    """Tenants with a gallery each."""
    numbers = [await new_tenant(database) for _ in range(TENANTS)]
    for number in numbers:
        async with tenant_session(database.engine, number) as session:
            columns = "tenant_id, name, embedding_space, embedding_space_digest, dimension, metric, default_threshold"
            values = {"tenant": number}
            await fetch_rows_in_transaction(
                session,
                f"INSERT INTO gallery ({columns}) VALUES (%(tenant)s, 'a', 'x', 'x', 2, 'cosine', 0) RETURNING id",
                values,
            )
            await session.commit()
    return numbers


async def request(engine: AsyncEngine, tenant: int, seed: int) -> None:
    """Run one request: it ends well, fails, is aborted in the middle, or continues after its transaction ended."""
    choice = random.Random(seed)  # noqa: S311 - when, not what
    async with tenant_session(engine, tenant) as session:
        for _ in range(choice.randint(1, 3)):
            if choice.random() < 0.3:
                await session.execute(text("SELECT 1"))
            assert await fetch_rows_in_transaction(session, MINE, {}) == [(tenant, str(tenant))]
            if choice.random() < 0.5:
                await (session.commit() if choice.random() < 0.5 else session.rollback())
        if choice.random() < 0.3:
            async with asyncio.timeout(choice.uniform(0.0, 0.02)):
                await fetch_rows_in_transaction(session, "SELECT pg_sleep(0.05)", {})
        if choice.random() < 0.2:
            await fetch_rows_in_transaction(session, "SELECT 1 / %(zero)s", {"zero": 0})


async def test_statements_that_bypass_sqlalchemy_return_only_rows_of_their_own_tenant(
    make_pool: MakePool, tenants: list[int]
) -> None:
    engine = make_pool(3)
    work = [request(engine, tenants[number % TENANTS], number) for number in range(REQUESTS)]
    results = await asyncio.gather(*work, return_exceptions=True)
    assert [error for error in results if isinstance(error, AssertionError)] == []
    assert 10 < sum(error is None for error in results) < REQUESTS
    for tenant in tenants:  # and every connection works as before
        async with tenant_session(engine, tenant) as session:
            assert await fetch_rows_in_transaction(session, MINE, {}) == [(tenant, str(tenant))]


async def test_a_transaction_leaves_nothing_of_its_tenant_on_the_connection(
    make_pool: MakePool, tenants: list[int]
) -> None:
    engine = make_pool(1)
    async with tenant_session(engine, tenants[0]) as session:
        assert len(await fetch_rows_in_transaction(session, MINE, {})) == 1
        await session.commit()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT current_setting('app.tenant', true)")) == ""
        assert await connection.scalar(text("SELECT count(*) FROM gallery")) == 0
        assert await connection.scalar(text("SHOW enable_seqscan")) == "on"


async def test_a_lost_connection_is_an_unavailable_database(make_pool: MakePool, tenants: list[int]) -> None:
    engine = make_pool(1)
    with pytest.raises(DatabaseUnavailable):
        async with tenant_session(engine, tenants[0]) as session:
            await fetch_rows_in_transaction(session, "SELECT pg_terminate_backend(pg_backend_pid())", {})
    async with tenant_session(engine, tenants[0]) as session:
        assert len(await fetch_rows_in_transaction(session, MINE, {})) == 1
