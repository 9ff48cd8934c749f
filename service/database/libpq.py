"""Several prepared statements and the sync that ends their common transaction, as one message to the server.

psycopg's own pipeline wakes up ten times for it; this speaks to libpq itself and wakes up once.
"""

import asyncio
import contextlib
import re
from functools import lru_cache
from itertools import count
from typing import Any, TypeVar

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

T = TypeVar("T")
Statement = tuple[str, dict[str, Any]]
"""In psycopg's words (`%(name)s`), and the values."""
Answer = tuple[tuple[str, ...], list[Any]]
"""Names of the columns, and the rows."""
PREPARED = "prepared statements"
"""Where a connection keeps the names of the statements that it knows."""

_CANCEL_SECONDS = 5.0
_PARAMETER = re.compile(r"%\((\w+)\)s")
_numbers = count()
"""For names: one that was given up while it was being prepared may be there or not, and is never used again."""


async def exchange(driver: psycopg.AsyncConnection[Any], info: dict[Any, Any], statements: list[Statement]) -> Answer:
    """What the last of these statements gives; all are one transaction, undone where one of them fails.

    `info` is the connection's own, where it keeps which statements it knows.
    """
    wire = driver.pgconn
    async with driver.lock:
        names = [await _prepared(driver, info, query) for query, _ in statements]
        wire.enter_pipeline_mode()
        for name, (query, values) in zip(names, statements, strict=True):
            given = [values[key] for key in _numbered(query)[1]]
            formats = [Format.BINARY if isinstance(value, bytes) else Format.TEXT for value in given]
            wire.send_query_prepared(name, [_dumped(value) for value in given], formats)
        wire.pipeline_sync()
        results = await _received(driver, _until_synchronized(wire))
        wire.exit_pipeline_mode()
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
    return _answer_in(results[-1], Transformer(driver))


def _answer_in(result: PGresult, transformer: Any) -> Answer:
    transformer.set_pgresult(result)
    names = tuple((result.fname(place) or b"").decode() for place in range(result.nfields))
    return names, transformer.load_rows(0, result.ntuples, tuple)


async def _prepared(driver: psycopg.AsyncConnection[Any], info: dict[Any, Any], query: str) -> bytes:
    """The name under which this connection knows the statement."""
    known: dict[str, bytes] = info.setdefault(PREPARED, {})
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


async def _received(driver: psycopg.AsyncConnection[Any], steps: PQGen[T]) -> T:
    """What the steps of an exchange return. As `driver.wait` does, without its task and timer for each wait.

    Where nobody waits for it any more, the server is told to stop, and what it still says is read.
    """
    try:
        waits_for = next(steps)
        while True:
            waits_for = steps.send(await _ready(driver.pgconn.socket, waits_for))
    except StopIteration as stop:
        received: T = stop.value
        return received
    except asyncio.CancelledError:
        with contextlib.suppress(psycopg.Error):
            await driver.cancel_safe(timeout=_CANCEL_SECONDS)
            await driver.wait(steps)
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
