"""The one place that says for which tenant a transaction speaks.

A `TenantSession` sets `app.tenant` when its transaction begins, with the first query and not before, so no
connection is held while a model works. Row-level security does the rest; a session without a tenant sees nothing.
"""

from typing import Any

import psycopg
from psycopg import generators
from psycopg.pq import ExecStatus, TransactionStatus
from sqlalchemy import Connection, event
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util import await_only

from service.errors import DatabaseUnavailable

PLANNING = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_bitmapscan": "off"}
"""Every statement reads by an index on the tenant, and has one plan whatever the planner knows of the tables: right
after a load it knows nothing."""
# All of it is one message to the server, where psycopg alone would send two.
_SPEAK_FOR = "; ".join(
    ["SET LOCAL app.tenant = '{tenant:d}'", *(f"SET LOCAL {name} = {value}" for name, value in PLANNING.items())]
)


class TenantBound(Session):
    """The synchronous half of a tenant's session; listeners are attached to it alone."""


@event.listens_for(TenantBound, "after_begin")
def _speak_for_tenant(session: Session, _: SessionTransaction, connection: Connection) -> None:
    try:
        await_only(_begin(_driver_of(connection), session.info["tenant_id"]))
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        # SQLAlchemy finds out for itself, tells it in its own way and gives up the connections that are as old.
        connection.exec_driver_sql("SELECT 1")
        raise DatabaseUnavailable("try again in a moment") from error


async def _begin(driver: psycopg.AsyncConnection[Any], tenant_id: int) -> None:
    begins = driver.pgconn.transaction_status == TransactionStatus.IDLE
    message = ("BEGIN; " if begins else "") + _SPEAK_FOR.format(tenant=tenant_id)
    async with driver.lock:
        driver.pgconn.send_query(message.encode())
        results = await driver.wait(generators.execute(driver.pgconn))
    if results[-1].status == ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(results[-1])


def tenant_session(bind: AsyncEngine | AsyncConnection, tenant_id: int) -> AsyncSession:
    """A session whose every transaction is bound to `tenant_id` by row-level security."""
    return AsyncSession(bind, sync_session_class=TenantBound, expire_on_commit=False, info={"tenant_id": tenant_id})


def tenant_of(session: AsyncSession) -> int:
    """The tenant a session speaks for; statements name it beside the policy."""
    info: dict[Any, Any] = session.info
    return int(info["tenant_id"])


async def driver_of(session: AsyncSession) -> psycopg.AsyncConnection[Any]:
    """psycopg's own connection, in the session's transaction: for statements where a tenth of a millisecond counts."""
    connection = (await session.connection()).sync_connection
    assert connection is not None  # noqa: S101 - it was opened a line before
    return _driver_of(connection)


async def fetch_rows_in_transaction(
    session: AsyncSession, query: str, values: dict[str, Any], *, prepare: bool | None = None
) -> list[Any]:
    """The rows of one statement in psycopg's words (`%(name)s`), by the shortest way: as tuples, nothing in between.

    `prepare`: False plans it anew each time, for statements whose best plan changes while tables grow; None prepares
    what is used often. A reading that needs no transaction around it is faster by `readings.rows_read`.
    """
    try:
        driver = await driver_of(session)
    except (OperationalError, InterfaceError) as error:
        raise DatabaseUnavailable("try again in a moment") from error
    try:
        return await (await driver.execute(query, values, prepare=prepare)).fetchall()
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if driver.closed:
            await session.invalidate()  # there is nothing to be rolled back, and no one else may get this connection
        raise DatabaseUnavailable("try again in a moment") from error


def _driver_of(connection: Connection) -> psycopg.AsyncConnection[Any]:
    driver: psycopg.AsyncConnection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return driver
