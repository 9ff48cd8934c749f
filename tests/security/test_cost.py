"""The cost of authentication, rate limits and tenancy for a request, measured on the run's database."""

import statistics
import time
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from service.access.authentication import admit
from service.access.quotas import Quotas
from service.database.connection import Database
from service.database.session import tenant_session
from tests.support.tenants import RATES, fill_tenant

REPETITIONS = 2_000
WARM_UP = 100
LIMIT_MILLISECONDS = 1.0
ONE = text("SELECT 1")


async def p50_milliseconds(act: Callable[[], Awaitable[None]]) -> float:
    """Return the median duration of sequential calls."""
    for _ in range(WARM_UP):
        await act()
    seconds = []
    for _ in range(REPETITIONS):
        begun = time.perf_counter()
        await act()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds) * 1000


@pytest.mark.long
async def test_authentication_and_tenancy_cost_less_than_a_millisecond(database: Database) -> None:
    free, rated = await fill_tenant(database, Quotas()), await fill_tenant(database, RATES)

    async def without_rates() -> None:
        await admit(database.engine, free.key)

    async def with_rates() -> None:
        await admit(database.engine, rated.key)

    async def plain_transaction() -> None:
        async with database.engine.connect() as connection:
            await connection.execute(ONE)
            await connection.commit()

    async def tenants_transaction() -> None:
        async with tenant_session(database.engine, rated.number) as session:
            await session.execute(ONE)
            await session.commit()

    plain = await p50_milliseconds(plain_transaction)
    tenancy = max(0.0, await p50_milliseconds(tenants_transaction) - plain)
    admission, admission_with_rates = await p50_milliseconds(without_rates), await p50_milliseconds(with_rates)
    print(
        f"p50: admission {admission:.2f} ms, with rates of tenant {admission_with_rates:.2f} ms, "
        f"tenancy on top of a plain transaction ({plain:.2f} ms) {tenancy:.2f} ms"
    )
    assert admission_with_rates + tenancy < LIMIT_MILLISECONDS
