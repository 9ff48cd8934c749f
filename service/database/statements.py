"""Readings that need no transaction around them: each is one of its own, in one message to the server and back.

The message holds two prepared statements and the sync that ends their common transaction: the first says for which
tenant, the second reads. With BEGIN, SET LOCAL and COMMIT the same takes three messages and two thirds more time.
"""

import contextlib
from collections import namedtuple
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn
from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import await_only, greenlet_spawn

from service.database.libpq import PREPARED, Answer, Statement, exchange
from service.database.session import PLANNING, fetch_rows_in_transaction, tenant_of
from service.errors import DatabaseUnavailable

_SPEAK_FOR = "SELECT " + ", ".join(
    ["set_config('app.tenant', %(tenant)s, true)", *(f"set_config('{n}', '{v}', true)" for n, v in PLANNING.items())]
)


async def fetch_rows(session: AsyncSession, query: str, values: dict[str, Any]) -> list[Any]:
    """The rows of one reading in psycopg's words (`%(name)s`), as tuples.

    In the session's transaction where one has begun, else in one of its own, and the session has none afterwards.
    """
    if session.in_transaction() or not isinstance(session.bind, AsyncEngine):
        return await fetch_rows_in_transaction(session, query, values)
    speaking = (_SPEAK_FOR, {"tenant": tenant_of(session)})
    _, rows = await _asked(session.bind, [speaking, (query, values)])
    return rows


async def fetch_row(engine: AsyncEngine, query: str, values: dict[str, Any]) -> Any | None:
    """The only row of one statement that is its own transaction, as a named tuple; None where it gives none.

    No tenant is set: for functions of the database that look after the policies themselves. What such a function writes
    it may write twice, where a connection is lost after it ran and before it was heard of.
    """
    names, rows = await _asked(engine, [(query, values)])
    return _row_type(names)(*rows[0]) if rows else None


@lru_cache(maxsize=64)
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names)


async def _asked(engine: AsyncEngine, statements: list[Statement]) -> Answer:
    """What the last statement gives."""
    try:
        return await greenlet_spawn(_ask_until_answered, engine.sync_engine, statements)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DatabaseUnavailable("try again in a moment") from error


def _ask_until_answered(engine: Engine, statements: list[Statement]) -> Answer:
    """Connections that have read before and are found lost are put away, and the next one is asked.

    After a rollback psycopg lets the server forget every prepared statement: then they are prepared again.
    """
    while True:
        with _lent(engine) as connection:
            has_read = PREPARED in connection.info
            driver: psycopg.AsyncConnection[Any] = connection.driver_connection  # type: ignore[assignment]
            try:
                return await_only(exchange(driver, connection.info, statements))
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if not (has_read and driver.closed):
                    raise
            except psycopg.errors.InvalidSqlStatementName:
                if not has_read:
                    raise
                del connection.info[PREPARED]


@contextlib.contextmanager
def _lent(engine: Engine) -> Iterator[PoolProxiedConnection]:
    """A connection of the pool, given back only if it is as good as new."""
    connection = engine.raw_connection()
    try:
        yield connection
    finally:
        wire: PGconn = connection.driver_connection.pgconn  # type: ignore[union-attr]
        is_idle = wire.transaction_status == TransactionStatus.IDLE
        if not (is_idle and wire.pipeline_status == PipelineStatus.OFF):
            connection.invalidate()
        connection.close()
