"""Opens the database: finds or starts the server, and makes the connection pool of the service role.

Without `DATABASE_URL` the server is the embedded one. The login of `DATABASE_URL`, or the embedded server's superuser,
prepares the database. The service itself works as a role that is neither owner, superuser nor BYPASSRLS.
"""

import asyncio
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.database.addresses import parse_address
from service.database.embedded.server import EmbeddedServer, start_embedded_server
from service.database.failures import as_lost_connection
from service.database.libpq import IS_POOLED
from service.database.logins import Logins, connect, is_pooled, service_login
from service.database.pool import FairPool, usual_most_of_one
from service.database.session import LOCAL_SETTINGS
from service.database.spooling import SPOOL, TEMPORARY_FOLDER
from service.database.types import SERVICE_ROLE
from service.database.values import register_dumpers
from service.errors import DatabaseUnavailable, InvalidSettings
from service.settings import Settings
from service.telemetry import logger

_CHECK_SECONDS = 1.0
"""Pause between two looks at the process of the embedded server: one read of /proc."""
_LONGEST_PAUSE_SECONDS = 60.0
_IDLE_SECONDS = 300
"""Time after which the server ends a transaction of a request that does nothing: it holds a connection and locks."""
DATABASE_NAME = "face_identity"
SEARCH_AUDIT_SHARE = "search_audit_share"
"""Execution option of the engine: the share of probes for which a search is repeated exactly and compared."""


class Database:
    """An open database. `engine` is the pool of the service role. Call `close` when done, or use `async with`.

    Within `async with`, an embedded server that crashed or was killed is started again.
    """

    def __init__(self, logins: Logins, engine: AsyncEngine, server: EmbeddedServer | None) -> None:
        self.logins = logins
        self.engine = engine
        self.trouble: str | None = None
        """Why the embedded server cannot be started again at the moment, for operators; None if it runs."""
        self._server = server
        self._keeper: asyncio.Task[None] | None = None

    def open_job_pool(self, connections: int) -> AsyncEngine:
        """A second pool, whose transactions may pause: a job reads its whole file within one."""
        folder = self.engine.get_execution_options()[TEMPORARY_FOLDER]
        pooled = self.logins.service_is_pooled
        return open_pool(self.logins.service, connections, pooled=pooled, idle_seconds=0, temporary_folder=folder)

    async def close(self) -> None:
        """Close the pool and leave the embedded server. The last process to leave stops the server."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self.engine.dispose()
        if self._server is not None:
            self._server.stop()

    async def __aenter__(self) -> "Database":
        if self._server is not None:
            self._keeper = asyncio.create_task(self._keep_running(self._server), name="embedded database")
        return self

    async def _keep_running(self, server: EmbeddedServer) -> None:
        """Start the server again whenever it has ended, with a growing pause while it does not start."""
        pause = _CHECK_SECONDS
        while True:
            await asyncio.sleep(pause)
            if await asyncio.to_thread(server.is_running):
                continue
            logger("database").error("the embedded database has ended by itself and is started again")
            try:
                await asyncio.to_thread(server.start_again)
            except DatabaseUnavailable as error:
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                self.trouble = _trouble(error.detail)
                logger("database").error(self.trouble, next_try_seconds=pause, cause=error.detail)
            else:
                pause, self.trouble = _CHECK_SECONDS, None
                logger("database").warning("the embedded database runs again")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _trouble(detail: str) -> str:
    """The reason as operators and clients read it: without paths and without the server's log."""
    if "No space left on device" in detail:
        return "the embedded database does not start: no space is left on its disk"
    return "the embedded database does not start; the server's log gives the reason"


def open_database(settings: Settings, linger_seconds: float = 0.0, statement_timeout_seconds: float = 0.0) -> Database:
    """Find the server that `settings` names, or start the embedded one. Does not migrate; see `schema/migrate.py`.

    The embedded server runs for `linger_seconds` after its last user. PostgreSQL stops a statement of the service after
    `statement_timeout_seconds`; 0: never, for commands, which nobody else waits for. Raises InvalidSettings for an
    unreadable URL, and DatabaseUnavailable if the server cannot be reached or started.
    """
    server: EmbeddedServer | None = None
    if settings.database_url:
        administrator = parse_address(settings.database_url)
        _refuse_pooler(settings, administrator)
    else:
        server = start_embedded_server(settings.data_dir / "postgres", linger_seconds=linger_seconds)
        administrator = _embedded_database(parse_address(server.url))
    if settings.database_service_url:
        service = parse_address(settings.database_service_url)
    elif server is not None:
        service = administrator.set(username=SERVICE_ROLE)  # the socket of the embedded server asks for no password
    else:
        service = service_login(administrator)
    pooled = settings.database_service_url is not None and _expects_pooler(settings, service)
    logins = Logins(administrator, service, pooled)
    folder = settings.data_dir / SPOOL
    engine = open_pool(
        service,
        settings.database_pool_size,
        settings.search_audit_share,
        pooled=pooled,
        temporary_folder=folder,
        most_of_one=settings.database_connections_per_tenant or usual_most_of_one(settings.database_pool_size),
        statement_timeout_seconds=statement_timeout_seconds,
    )
    return Database(logins, engine, server)


def _expects_pooler(settings: Settings, service: URL) -> bool:
    """Whether to work as behind a pooler. That works without one too, so it is the answer if nobody can log in yet.

    Before the first migration the service role does not exist, or has no password.
    """
    if settings.database_pooler != "auto":
        return settings.database_pooler == "transaction"
    try:
        return is_pooled(service)
    except DatabaseUnavailable:
        return True


def _refuse_pooler(settings: Settings, administrator: URL) -> None:
    """Migrations hold locks from one transaction to the next, and the service role is chosen when a session starts."""
    if settings.database_pooler != "off" and is_pooled(administrator):
        raise InvalidSettings(
            "DATABASE_URL leads to a connection pooler. Name the PostgreSQL server itself in DATABASE_URL and the "
            "pooler in DATABASE_SERVICE_URL; if the pooler is in session mode, set DATABASE_POOLER=off"
        )


def _embedded_database(maintenance: URL) -> URL:
    with connect(maintenance) as connection:
        row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE_NAME]).fetchone()
        if row is None:
            try:
                connection.execute(f"CREATE DATABASE {DATABASE_NAME}")
            except psycopg.errors.DuplicateDatabase:  # another process was first
                pass
            except psycopg.errors.UniqueViolation:  # the same, if both were created at the same moment
                pass
    return maintenance.set(database=DATABASE_NAME)


def open_pool(
    login: URL,
    connections: int,
    audit_share: float = 0.0,
    *,
    pooled: bool = False,
    idle_seconds: int = _IDLE_SECONDS,
    temporary_folder: Path | None = None,
    most_of_one: int | None = None,
    statement_timeout_seconds: float = 0.0,
) -> AsyncEngine:
    """Make a pool of at most `connections` connections. The caller disposes of the engine.

    `audit_share`: the share of probes for which `gallery.search` repeats a search exactly, 0 to 1.
    `pooled`: a pooler stands before the server (`logins.is_pooled`). `idle_seconds`: the server ends a transaction that
    does nothing for so long; 0: never. `temporary_folder`: see `spooling.py`. `most_of_one`: the connections that one
    tenant may hold; None: all. `statement_timeout_seconds`: see `open_database`.
    """
    settings = {"jit": "off", "idle_in_transaction_session_timeout": f"{idle_seconds}s"}
    if statement_timeout_seconds:
        settings["statement_timeout"] = f"{ceil(statement_timeout_seconds * 1000)}ms"
    options: dict[str, Any] = {
        SEARCH_AUDIT_SHARE: audit_share,
        TEMPORARY_FOLDER: temporary_folder,
        IS_POOLED: pooled,
        # A pooler takes no options, and a setting of a session would reach others. So each transaction sets its own.
        LOCAL_SETTINGS: settings if pooled else {},
    }
    given = [login.query.get("options", ""), *(f"-c {name}={value}" for name, value in settings.items())]
    start: dict[str, Any] = {"prepare_threshold": 5, "options": " ".join(map(str, given)).strip()}
    engine = create_async_engine(
        login,
        execution_options=options,
        poolclass=FairPool,
        most_of_one=connections if most_of_one is None else min(most_of_one, connections),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=False,
        connect_args={"prepare_threshold": None} if pooled else start,
        hide_parameters=True,  # error messages must not contain embeddings
    )
    event.listen(engine.sync_engine, "connect", _prepare_connection)
    event.listen(engine.sync_engine, "handle_error", as_lost_connection, retval=True)
    return engine


def _prepare_connection(connection: Any, _: object) -> None:
    register_dumpers(connection.driver_connection)
