"""Sessions that are bound to one tenant.

A tenant session sets `app.tenant` when its transaction begins, and row-level security does the rest: without a tenant
a session sees no rows. The transaction begins with the first statement and not before, so no connection is held while
a model works.
"""

from typing import Any

import psycopg
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util import await_only

from service.database import libpq
from service.database.failures import DRIVER_FAILURES, unavailable

PLANNING = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_bitmapscan": "off"}
"""Planner settings of every tenant statement: read by an index that starts with the tenant, with one plan whatever the
statistics say. Right after a bulk load the statistics are empty or old, and the planner would choose plans that read
the whole gallery for each row."""

LOCAL_SETTINGS = "local_settings"
"""Execution option of an engine: a dictionary of settings that each transaction of a tenant makes for itself."""

_SET_TENANT = "; ".join(
    ["SET LOCAL app.tenant = '{tenant:d}'", *(f"SET LOCAL {name} = {value}" for name, value in PLANNING.items())]
)


class TenantBound(Session):
    """The synchronous half of a tenant session. Event listeners are attached to this class only."""


@event.listens_for(TenantBound, "after_begin")
def _set_tenant(session: Session, _: SessionTransaction, connection: Connection) -> None:
    try:
        protocol = await_only(libpq.protocol_of(connection.engine))
        script = _SET_TENANT.format(tenant=session.info["tenant_id"])
        for name, value in connection.get_execution_options().get(LOCAL_SETTINGS, {}).items():
            script += f"; SET LOCAL {name} = '{value}'"
        await_only(protocol.begin(_driver(connection), script))
    except DRIVER_FAILURES as error:
        _let_sqlalchemy_notice(connection)
        raise unavailable(error) from error


def _let_sqlalchemy_notice(connection: Connection) -> None:
    """Run a statement on a lost connection, so that SQLAlchemy discards it and every older connection of the pool.

    SQLAlchemy does that only for errors of statements that it sent itself. Without this, each of the other
    connections would fail one more request after a restart of PostgreSQL.
    """
    try:
        connection.exec_driver_sql("SELECT 1")
    except SQLAlchemyError:
        return


def tenant_session(bind: AsyncEngine | AsyncConnection, tenant_id: int) -> AsyncSession:
    """A session whose every transaction is bound to `tenant_id` by row-level security."""
    return AsyncSession(bind, sync_session_class=TenantBound, expire_on_commit=False, info={"tenant_id": tenant_id})


def tenant_of(session: AsyncSession) -> int:
    """The tenant of a session. Statements name it beside the policy."""
    info: dict[Any, Any] = session.info
    return int(info["tenant_id"])


async def release_connection(session: AsyncSession) -> None:
    """Return the session's connection to the pool before slow work such as inference; does nothing if it has none.

    Raises RuntimeError if the transaction has written or locked rows: ending it here would lose what the caller has not
    committed. The server knows: a transaction gets a number with its first write or row lock.
    """
    if not session.in_transaction():
        return
    if await session.scalar(text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")):
        raise RuntimeError("the session has uncommitted writes or row locks")
    await session.rollback()


async def driver_of(session: AsyncSession) -> psycopg.AsyncConnection[Any]:
    """psycopg's connection, in the session's transaction. Begins the transaction if none has begun."""
    connection = (await session.connection()).sync_connection
    assert connection is not None  # noqa: S101 - it was opened a line before
    return _driver(connection)


def _driver(connection: Connection) -> psycopg.AsyncConnection[Any]:
    driver: psycopg.AsyncConnection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return driver
