"""The one place that says for which tenant a transaction speaks.

A `TenantSession` sets `app.tenant` when its transaction begins, with the first query and not before, so no
connection is held while a model works. Row-level security does the rest; a session without a tenant sees nothing.
"""

from typing import Any

import psycopg
from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from service.errors import DatabaseUnavailable

TENANT_POLICY = "tenant_id = NULLIF(current_setting('app.tenant', true), '')::integer"
"""What every policy asks. After a transaction the setting is '' and not NULL, hence NULLIF."""

# Every statement reads by an index on the tenant, and has one plan whatever the planner knows of the tables: right
# after a load it knows nothing. The same round trip sets the tenant.
_BEGIN = """
    SELECT set_config('app.tenant', %s, true), set_config('plan_cache_mode', 'force_generic_plan', true),
        set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)
"""


# While it stands in a session's info, `rows_of` sets the tenant itself.
_IS_SET_BY_ROWS_OF = "tenant_is_set_by_rows_of"


class TenantBound(Session):
    """The synchronous half of a tenant's session; listeners are attached to it alone."""


@event.listens_for(TenantBound, "after_begin")
def _speak_for_tenant(session: Session, _: SessionTransaction, connection: Connection) -> None:
    if _IS_SET_BY_ROWS_OF not in session.info:
        connection.exec_driver_sql(_BEGIN, (str(session.info["tenant_id"]),))


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
    driver: psycopg.AsyncConnection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return driver


async def rows_of(session: AsyncSession, query: str, values: dict[str, Any]) -> list[Any]:
    """The rows of one statement in psycopg's words (`%(name)s`), by the shortest way: as tuples, nothing in between.

    The tenant goes the same way before it where it is the first of its transaction. (A pipeline of the two saves a
    round trip and takes longer all the same: psycopg wakes up ten times in one.)
    """
    begins = not session.in_transaction()
    driver = await _driver_before_the_tenant(session) if begins else await driver_of(session)
    try:
        if begins:
            await driver.execute(_BEGIN, (str(tenant_of(session)),))
        return await (await driver.execute(query, values)).fetchall()
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if driver.closed:
            await session.invalidate()  # there is nothing to be rolled back, and no one else may get this connection
        raise DatabaseUnavailable("try again in a moment") from error


async def _driver_before_the_tenant(session: AsyncSession) -> psycopg.AsyncConnection[Any]:
    session.info[_IS_SET_BY_ROWS_OF] = True
    try:
        return await driver_of(session)
    finally:
        del session.info[_IS_SET_BY_ROWS_OF]
