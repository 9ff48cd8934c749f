"""Runs SQL statements that the plan tests hold, by the shortest way to the server.

Parameters are written `%(name)s` and encoded by `values.py`. A percent sign that is no parameter stands for itself.

`fetch_rows` reads. Outside a transaction it sends two prepared statements and the sync that ends their common
transaction as one message: the first sets the tenant, the second reads. BEGIN, SET LOCAL and COMMIT would take three
messages and two thirds more time. `fetch_rows_in_transaction` writes, or reads what the transaction has written.
Single rows that no plan test holds are read and written with SQLAlchemy Core instead.
"""

import contextlib
from collections import namedtuple
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import psycopg
from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import await_only, greenlet_spawn

from service.database import libpq
from service.database.failures import DRIVER_FAILURES, unavailable
from service.database.libpq import Answer, Statement
from service.database.session import LOCAL_SETTINGS, PLANNING, driver_of, tenant_of
from service.database.values import encode_all


@lru_cache(maxsize=8)
def _set_tenant(settings: tuple[tuple[str, str], ...]) -> str:
    """The statement that begins a reading, with these settings beside the planner's."""
    made = [f"set_config('{name}', '{value}', true)" for name, value in (*PLANNING.items(), *settings)]
    return ", ".join(["SELECT set_config('app.tenant', %(tenant)s, true)", *made])


async def fetch_rows(session: AsyncSession, query: str, values: dict[str, Any]) -> list[Any]:
    """Rows of one reading statement, as tuples.

    Runs in the session's transaction if one has begun, else in a transaction of its own; then the session has none
    afterwards. Raises DatabaseUnavailable if the database cannot be reached.
    """
    if session.in_transaction() or not isinstance(session.bind, AsyncEngine):
        return await fetch_rows_in_transaction(session, query, values)
    settings = tuple(session.bind.get_execution_options().get(LOCAL_SETTINGS, {}).items())
    set_tenant = Statement(_set_tenant(settings), encode_all({"tenant": str(tenant_of(session))}))
    answer = await _exchange(session.bind, [set_tenant, Statement(query, encode_all(values))])
    return answer.rows


async def fetch_row(engine: AsyncEngine, query: str, values: dict[str, Any]) -> Any | None:
    """The only row of one statement in a transaction of its own, as a named tuple; None if there is no row.

    No tenant is set: this is for functions of the database that set the tenant themselves. Such a function may write
    twice: if the connection is lost after the function ran and before the answer arrived, it runs again.
    """
    answer = await _exchange(engine, [Statement(query, encode_all(values))])
    return _row_type(answer.names)(*answer.rows[0]) if answer.rows else None


async def fetch_rows_in_transaction(
    session: AsyncSession, query: str, values: dict[str, Any], *, prepare: bool | None = None
) -> list[Any]:
    """Rows of one statement in the session's transaction, as tuples. Begins the transaction if none has begun.

    `prepare`: False plans the statement anew each time, for statements whose best plan changes while tables grow;
    None lets psycopg prepare a statement that is used often. Raises DatabaseUnavailable if the connection is lost.
    """
    encoded = encode_all(values)
    try:
        driver = await driver_of(session)
    except (OperationalError, InterfaceError) as error:
        raise unavailable(error) from error
    try:
        return await (await libpq.run(driver, query, encoded, prepare=prepare)).fetchall()
    except DRIVER_FAILURES as error:
        if driver.closed:
            await session.invalidate()  # nothing is left to roll back, and the pool must not lend this connection
        raise unavailable(error) from error


@lru_cache(maxsize=64)
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names)


async def _exchange(engine: AsyncEngine, statements: list[Statement]) -> Answer:
    try:
        return await greenlet_spawn(_exchange_on_a_live_connection, engine.sync_engine, statements)
    except DRIVER_FAILURES as error:
        raise unavailable(error) from error


def _exchange_on_a_live_connection(engine: Engine, statements: list[Statement]) -> Answer:
    """Run the exchange, again on the next connection if a connection of the pool proves lost.

    After a restart of PostgreSQL every pooled connection is lost, and each is replaced here without an error. Only a
    connection that has answered before is replaced: a failure at the first use shows that the database is unavailable.
    """
    protocol = await_only(libpq.protocol_of(engine))
    while True:
        with _borrowed(engine) as connection:
            has_answered = libpq.PREPARED in connection.info
            driver: libpq.Driver = connection.driver_connection  # type: ignore[assignment]
            try:
                return await_only(protocol.exchange(driver, connection.info, statements))
            except DRIVER_FAILURES:
                if not (has_answered and driver.closed):
                    raise
            except psycopg.errors.InvalidSqlStatementName:
                # psycopg runs DEALLOCATE ALL after a rollback, which drops the statements that are prepared here too.
                if not has_answered:
                    raise
                del connection.info[libpq.PREPARED]


@contextlib.contextmanager
def _borrowed(engine: Engine) -> Iterator[PoolProxiedConnection]:
    """A connection of the pool. It goes back if it is idle, and is closed if an exchange was left unfinished."""
    connection = engine.raw_connection()
    try:
        yield connection
    finally:
        if not libpq.is_reusable(connection.driver_connection):  # type: ignore[arg-type]
            connection.invalidate()
        connection.close()
