"""Readings that need no transaction around them: each is one of its own, in one message to the server and back.

The message holds two prepared statements and the sync that ends their common transaction: the first says for which
tenant, the second reads. With BEGIN, SET LOCAL and COMMIT the same takes three messages and nearly twice the time.
psycopg's own pipeline wakes up ten times for it; this one speaks to libpq itself and wakes up once.
"""

import asyncio
import contextlib
import re
from collections import namedtuple
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from typing import Any, TypeVar

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format, PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait
from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.util import await_only, greenlet_spawn

from service.database.tenancy import PLANNING, rows_of, tenant_of
from service.errors import DatabaseUnavailable

T = TypeVar("T")
_CANCEL_SECONDS = 5.0
_PARAMETER = re.compile(r"%\((\w+)\)s")
_PREPARED = "prepared readings"
_numbers = count()
"""For names: one that was given up while it was being prepared may be there or not, and is never used again."""
_SPEAK_FOR = "SELECT " + ", ".join(
    ["set_config('app.tenant', %(tenant)s, true)", *(f"set_config('{n}', '{v}', true)" for n, v in PLANNING.items())]
)


async def rows_read(session: AsyncSession, query: str, values: dict[str, Any]) -> list[Any]:
    """The rows of one reading in psycopg's words (`%(name)s`), as tuples.

    In the session's transaction where one has begun, else in one of its own, and the session has none afterwards.
    """
    if session.in_transaction() or not isinstance(session.bind, AsyncEngine):
        return await rows_of(session, query, values)
    speaking = (_SPEAK_FOR, {"tenant": tenant_of(session)})
    _, rows = await _asked(session.bind, [speaking, (query, values)])
    return rows


async def row_at_once(engine: AsyncEngine, query: str, values: dict[str, Any]) -> Any | None:
    """The only row of one statement that is its own transaction, as a named tuple; None where it gives none.

    No tenant is set: for functions of the database that look after the policies themselves.
    """
    names, rows = await _asked(engine, [(query, values)])
    return _row_type(names)(*rows[0]) if rows else None


@lru_cache(maxsize=64)
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names)


_Statement = tuple[str, dict[str, Any]]
_Answer = tuple[tuple[str, ...], list[Any]]
"""Names of the columns, and the rows."""


async def _asked(engine: AsyncEngine, statements: list[_Statement]) -> _Answer:
    """What the last statement gives."""
    try:
        return await greenlet_spawn(_ask_until_answered, engine.sync_engine, statements)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DatabaseUnavailable("try again in a moment") from error


def _ask_until_answered(engine: Engine, statements: list[_Statement]) -> _Answer:
    """Connections that have read before and are found lost are put away, and the next one is asked.

    After a rollback psycopg lets the server forget every prepared statement: then they are prepared again.
    """
    while True:
        with _lent(engine) as connection:
            has_read = _PREPARED in connection.info
            driver: psycopg.AsyncConnection[Any] = connection.driver_connection  # type: ignore[assignment]
            try:
                return await_only(_exchange(driver, connection.info, statements))
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if not (has_read and driver.closed):
                    raise
            except psycopg.errors.InvalidSqlStatementName:
                if not has_read:
                    raise
                del connection.info[_PREPARED]


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


async def _exchange(
    driver: psycopg.AsyncConnection[Any], info: dict[Any, Any], statements: list[_Statement]
) -> _Answer:
    wire = driver.pgconn
    async with driver.lock:
        names = [await _prepared(driver, info, query) for query, _ in statements]
        wire.enter_pipeline_mode()
        for name, (query, values) in zip(names, statements, strict=True):
            parameters = [_dumped(values[key]) for key in _numbered(query)[1]]
            formats = [Format.BINARY if isinstance(values[key], bytes) else Format.TEXT for key in _numbered(query)[1]]
            wire.send_query_prepared(name, parameters, formats)
        wire.pipeline_sync()
        results = await _received(driver, _until_synchronized(wire))
        wire.exit_pipeline_mode()
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
    return _answer_in(results[-1], Transformer(driver))


def _answer_in(result: PGresult, transformer: Any) -> _Answer:
    transformer.set_pgresult(result)
    names = tuple((result.fname(place) or b"").decode() for place in range(result.nfields))
    return names, transformer.load_rows(0, result.ntuples, tuple)


async def _prepared(driver: psycopg.AsyncConnection[Any], info: dict[Any, Any], query: str) -> bytes:
    """The name under which this connection knows the statement."""
    known: dict[str, bytes] = info.setdefault(_PREPARED, {})
    if query not in known:
        name = f"reading_{next(_numbers)}".encode()
        driver.pgconn.send_prepare(name, _numbered(query)[0])
        (result,) = await driver.wait(generators.execute(driver.pgconn))
        if result.status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
        known[query] = name
    return known[query]


@lru_cache(maxsize=256)
def _numbered(query: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement with parameters as the server takes them ($1), and their names in that order."""
    names = tuple(dict.fromkeys(_PARAMETER.findall(query)))
    places = {name: f"${place}" for place, name in enumerate(names, start=1)}
    return _PARAMETER.sub(lambda found: places[found[1]], query).encode(), names


def _dumped(value: Any) -> bytes | None:
    """Bytes are in the server's binary form already (`gallery.wire`); all else goes as text."""
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode()


async def _received(driver: psycopg.AsyncConnection[Any], exchange: PQGen[T]) -> T:
    """What the generator of an exchange returns. As `driver.wait` does, without its task and timer for each wait.

    Where nobody waits for it any more, the server is told to stop, and what it still says is read.
    """
    try:
        waits_for = next(exchange)
        while True:
            waits_for = exchange.send(await _ready(driver.pgconn.socket, waits_for))
    except StopIteration as stop:
        received: T = stop.value
        return received
    except asyncio.CancelledError:
        with contextlib.suppress(psycopg.Error):
            await driver.cancel_safe(timeout=_CANCEL_SECONDS)
            await driver.wait(exchange)
        raise


async def _ready(socket: int, waits_for: Wait) -> Ready:
    """Which of the two the socket is ready for."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[Ready] = loop.create_future()

    def is_ready(state: Ready) -> None:
        if not ready.done():
            ready.set_result(state)

    if waits_for & Wait.R:
        loop.add_reader(socket, is_ready, Ready.R)
    if waits_for & Wait.W:
        loop.add_writer(socket, is_ready, Ready.W)
    try:
        return await ready
    finally:
        if waits_for & Wait.R:
            loop.remove_reader(socket)
        if waits_for & Wait.W:
            loop.remove_writer(socket)


def _until_synchronized(wire: PGconn) -> PQGen[list[PGresult]]:
    yield from generators.send(wire)
    results: list[PGresult] = []
    while True:
        for result in (yield from generators.fetch_many(wire)):
            if result.status == ExecStatus.PIPELINE_SYNC:
                return results
            results.append(result)
