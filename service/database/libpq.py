"""Sends several prepared statements as one message. The only file that uses psycopg below its documented interface.

Why this is written by hand instead of using `psycopg.AsyncConnection.pipeline()`:
- psycopg's pipeline waits for the socket about ten times for two statements, and makes a task and a timer for each
  wait. The exchange below waits once. Measured in one run on 2 cores: a search of 1,000 faces takes 0.46 ms instead
  of 0.77 ms, and 0.31 ms of processor time instead of 0.57 ms (docs/decisions/0014-readings-in-one-message.md).
- psycopg starts a tenant's transaction with two messages, BEGIN and SET LOCAL. `_begin` sends one.

What it costs: this file relies on parts of psycopg that may change in any minor release.
- `connection.pgconn` with the pipeline functions of libpq, `psycopg.generators` and `psycopg.adapt.Transformer`.
- `connection.wait`, which drives a generator of psycopg.
- Only one task may use a connection at a time. The pool guarantees it, so `connection.lock` is not taken here.

Tested with psycopg 3.3.9 (binary) and libpq 18 only; other versions rely on the check. `protocol_of` tries the exchange
once for each pool, on a connection of its own. If anything but the expected rows comes back, the pool uses psycopg's
pipeline instead (`PSYCOPG_PIPELINE`): slower, and with the same results.

A prepared statement has the digest of its text as its name. A pooler such as PgBouncer may run each transaction on
another connection of the server, where other processes have prepared statements: names by number meant a statement of
each process, so that one ran in place of the other. The same name now always means the same text.
"""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg.pq import ExecStatus, Format, PipelineStatus, TransactionStatus
from psycopg.waiting import Ready, Wait
from sqlalchemy import Engine

from service.database.addresses import conninfo
from service.database.values import BinaryValue, Encoded, encode, register_dumpers
from service.telemetry import logger

try:
    from psycopg import generators
    from psycopg.adapt import Transformer
except ImportError:  # the self-check fails, and the pool uses psycopg's pipeline
    generators = Transformer = None  # type: ignore[assignment]

T = TypeVar("T")
Driver = psycopg.AsyncConnection[Any]


class Statement(NamedTuple):
    """A statement with named parameters (`%(name)s`) and their encoded values."""

    query: str
    values: Mapping[str, Encoded]


class Answer(NamedTuple):
    """Column names and rows of the last statement of an exchange."""

    names: tuple[str, ...]
    rows: list[Any]


class Protocol(NamedTuple):
    """Two operations that a pool does either in one message or through psycopg's documented interface."""

    exchange: Callable[[Driver, dict[Any, Any], Sequence[Statement]], Awaitable[Answer]]
    """Run the statements as one transaction. Returns the rows of the last one; if one fails, all are undone.

    The dictionary belongs to the connection and remembers the statements that are prepared there."""
    begin: Callable[[Driver, str], Awaitable[None]]
    """Begin a transaction, unless one has begun, and run a script of statements without parameters in it."""


PREPARED = "prepared statements"
"""Key of a connection's dictionary: the statements that are prepared on the connection. Behind a pooler nobody knows
them, and the set is empty."""
IS_POOLED = "is_pooled"
"""Execution option of an engine: whether a pooler between may run each transaction on another connection."""

_CANCEL_SECONDS = 5.0
_PARAMETER = re.compile(r"%\((\w+)\)s")


async def _exchange(driver: Driver, info: dict[Any, Any], statements: Sequence[Statement]) -> Answer:
    for query, _ in statements:
        await _prepare(driver, info, query)
    return await _send(driver, statements)


async def _exchange_through_pooler(driver: Driver, info: dict[Any, Any], statements: Sequence[Statement]) -> Answer:
    """Hope that the server's connection has the statements; if not, prepare and run them in one message.

    Only statements of one message are sure to run on one connection of the server. If some of them are prepared there,
    preparing them again would be an error. Closing a statement that does not exist is none, so each is closed before.
    """
    info.setdefault(PREPARED, set())
    try:
        return await _send(driver, statements)
    except psycopg.errors.InvalidSqlStatementName:  # nothing was done: the statements are one transaction
        return await _send(driver, statements, prepares=True)


async def _send(driver: Driver, statements: Sequence[Statement], *, prepares: bool = False) -> Answer:
    pgconn = driver.pgconn
    pgconn.enter_pipeline_mode()
    for query, values in statements:
        text, parameters, name = numbered(query)
        if prepares:
            pgconn.send_close_prepared(name)
            pgconn.send_prepare(name, text)
        ordered = [values[parameter] for parameter in parameters]
        formats = [Format.BINARY if isinstance(value, BinaryValue) else Format.TEXT for value in ordered]
        pgconn.send_query_prepared(name, ordered, formats)
    pgconn.pipeline_sync()
    results = await _wait(driver, _results_until_sync(pgconn))
    pgconn.exit_pipeline_mode()
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
    return _answer(results[-1], Transformer(driver))


async def _exchange_by_psycopg(driver: Driver, _: dict[Any, Any], statements: Sequence[Statement]) -> Answer:
    try:
        async with driver.pipeline():
            for query, values in statements:
                cursor = await run(driver, query, values, prepare=True)
            rows = await cursor.fetchall()
            names = tuple(column.name for column in cursor.description or ())
        await driver.commit()
    except psycopg.Error:
        if not driver.closed:
            await driver.rollback()
        raise
    return Answer(names, rows)


async def _begin(driver: Driver, script: str) -> None:
    starts = driver.pgconn.transaction_status == TransactionStatus.IDLE
    driver.pgconn.send_query((("BEGIN; " if starts else "") + script).encode())
    results = await driver.wait(generators.execute(driver.pgconn))
    if results[-1].status == ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(results[-1])


async def _begin_by_psycopg(driver: Driver, script: str) -> None:
    await driver.execute(script.encode())  # psycopg sends BEGIN before it


ONE_MESSAGE = Protocol(_exchange, _begin)
ONE_POOLED_MESSAGE = Protocol(_exchange_through_pooler, _begin)
PSYCOPG_PIPELINE = Protocol(_exchange_by_psycopg, _begin_by_psycopg)
_protocols: WeakKeyDictionary[Engine, Protocol] = WeakKeyDictionary()
_checks: WeakKeyDictionary[Engine, asyncio.Lock] = WeakKeyDictionary()
"""One check at a time for each pool: the first requests of a busy server arrive together."""


async def protocol_of(engine: Engine) -> Protocol:
    """The protocol of a pool. The first call checks it, on a connection of its own that is closed afterwards.

    Raises psycopg.OperationalError if the database cannot be reached.
    """
    if engine not in _protocols:
        async with _checks.setdefault(engine, asyncio.Lock()):
            if engine not in _protocols:
                _protocols[engine] = await check_protocol(
                    ONE_POOLED_MESSAGE if _is_pooled(engine) else ONE_MESSAGE, engine
                )
    return _protocols[engine]


def _is_pooled(engine: Engine) -> bool:
    return bool(engine.get_execution_options().get(IS_POOLED))


async def check_protocol(protocol: Protocol, engine: Engine) -> Protocol:
    """Returns `protocol` if it works with this psycopg and this server, else PSYCOPG_PIPELINE."""
    # Without a threshold psycopg prepares nothing. Its names are numbers, which must not meet behind a pooler.
    driver = await psycopg.AsyncConnection.connect(
        conninfo(engine.url), prepare_threshold=None if _is_pooled(engine) else 5
    )
    try:
        register_dumpers(driver)
        await _exercise(protocol, driver)
    except Exception as error:
        if isinstance(error, psycopg.OperationalError):
            raise
        logger("database").warning("statements use psycopg's pipeline, which is slower", error=type(error).__name__)
        return PSYCOPG_PIPELINE
    finally:
        await driver.close()
    return protocol


async def _exercise(protocol: Protocol, driver: Driver) -> None:
    """Run an exchange twice (prepared anew, prepared before), an exchange that fails, and a transaction."""
    info: dict[Any, Any] = {}
    setting = Statement("SELECT set_config('app.tenant', %(value)s, true)", {"value": encode("7")})
    query = "SELECT CAST(%(number)s AS integer) AS number, current_setting('app.tenant') AS tenant"
    for number in (1, 2):
        answer = await protocol.exchange(driver, info, [setting, Statement(query, {"number": encode(number)})])
        _expect(answer == (("number", "tenant"), [(number, "7")]) and is_reusable(driver))
    with contextlib.suppress(psycopg.errors.DivisionByZero):
        await protocol.exchange(driver, info, [setting, Statement("SELECT 1 / 0", {})])
        _expect(False)
    _expect(is_reusable(driver))
    await protocol.begin(driver, "SET LOCAL app.tenant = '8'; SET LOCAL jit = off")
    cursor = await driver.execute("SELECT current_setting('app.tenant')")
    _expect(await cursor.fetchall() == [("8",)])
    await driver.rollback()
    _expect(is_reusable(driver))


def _expect(condition: bool) -> None:
    if not condition:
        raise NotImplementedError("psycopg did not do what the exchange relies on")


def scram_verifier(driver: psycopg.Connection[Any], user: str, password: str) -> str:
    """What PostgreSQL stores instead of the password. libpq computes it here; the server never receives the password.

    psycopg itself has no function for it.
    """
    return driver.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()


def is_reusable(driver: Driver) -> bool:
    """Whether the connection is open, outside a transaction and outside pipeline mode."""
    pgconn = driver.pgconn
    is_idle = pgconn.transaction_status == TransactionStatus.IDLE
    return is_idle and pgconn.pipeline_status == PipelineStatus.OFF


async def run(
    driver: Driver, query: str, values: Mapping[str, Encoded], *, prepare: bool | None
) -> psycopg.AsyncRawCursor[Any]:
    """Run one statement in psycopg's way, in the connection's transaction.

    A raw cursor takes the numbered text of the statement, so that both ways send the same text to the server.
    """
    text, parameters, _ = numbered(query)
    cursor = psycopg.AsyncRawCursor(driver)
    return await cursor.execute(text, [values[parameter] for parameter in parameters], prepare=prepare)


class _Numbered(NamedTuple):
    text: bytes
    parameters: tuple[str, ...]
    name: bytes


@lru_cache(maxsize=256)
def numbered(query: str) -> _Numbered:
    """The statement with the server's parameters ($1, $2), the parameter names in that order, and its name if prepared.

    The server infers the types of the parameters from the text, so the text alone decides what the statement is.
    """
    parameters = tuple(dict.fromkeys(_PARAMETER.findall(query)))
    positions = {name: f"${position}" for position, name in enumerate(parameters, start=1)}
    text = _PARAMETER.sub(lambda match: positions[match[1]], query).encode()
    return _Numbered(text, parameters, b"fi_" + hashlib.sha256(text).hexdigest()[:32].encode())


async def _prepare(driver: Driver, info: dict[Any, Any], query: str) -> None:
    """Prepare the statement at its first use on this connection."""
    prepared: set[str] = info.setdefault(PREPARED, set())
    if query not in prepared:
        text, _, name = numbered(query)
        driver.pgconn.send_prepare(name, text)
        (result,) = await driver.wait(generators.execute(driver.pgconn))
        if result.status == ExecStatus.FATAL_ERROR:
            error = psycopg.errors.error_from_result(result)
            # A request that was cancelled while it prepared the statement has left it behind, or has not.
            if not isinstance(error, psycopg.errors.DuplicatePreparedStatement):
                raise error
        prepared.add(query)


def _answer(result: Any, transformer: Any) -> Answer:
    transformer.set_pgresult(result)
    names = tuple((result.fname(column) or b"").decode() for column in range(result.nfields))
    return Answer(names, transformer.load_rows(0, result.ntuples, tuple))


async def _wait(driver: Driver, steps: Any) -> Any:
    """Drive a generator of psycopg to its result, like `connection.wait` but without a task and a timer for each wait.

    If the caller is cancelled, the server is told to stop the statement: it would not notice a closed socket before
    the statement ends. The connection stays in pipeline mode, so the pool discards it.
    """
    try:
        waits_for = next(steps)
        while True:
            waits_for = steps.send(await _until_ready(driver.pgconn.socket, waits_for))
    except StopIteration as stop:
        return stop.value
    except asyncio.CancelledError:
        with contextlib.suppress(psycopg.Error):
            await driver.cancel_safe(timeout=_CANCEL_SECONDS)
        raise


async def _until_ready(socket: int, waits_for: Wait) -> Ready:
    """Wait until the socket can be read or written, as asked. Returns which of the two it was."""
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


def _results_until_sync(pgconn: Any) -> Any:
    """A generator of psycopg: sends the buffered messages, and collects the results up to the sync message."""
    yield from generators.send(pgconn)
    results: list[Any] = []
    while True:
        for result in (yield from generators.fetch_many(pgconn)):
            if result.status == ExecStatus.PIPELINE_SYNC:
                return results
            results.append(result)
