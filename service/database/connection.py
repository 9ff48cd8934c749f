"""Opens the database: finds or starts the server, and makes the connection pool of the service role.

Without `DATABASE_URL` the server is the embedded one. The login of `DATABASE_URL`, or the embedded server's superuser,
prepares the database. The service itself works as a role that is neither owner, superuser nor BYPASSRLS.
"""

import asyncio
from types import TracebackType
from typing import Any

import psycopg
from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.database.addresses import parse_address
from service.database.embedded.server import EmbeddedServer, start_embedded_server
from service.database.logins import Logins, connect, service_login
from service.database.types import SERVICE_ROLE
from service.database.values import register_dumpers
from service.errors import DatabaseUnavailable
from service.settings import Settings
from service.telemetry import logger

_CHECK_SECONDS = 1.0
"""Pause between two looks at the process of the embedded server: one read of /proc."""
_LONGEST_PAUSE_SECONDS = 60.0
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


def open_database(settings: Settings, linger_seconds: float = 0.0) -> Database:
    """Find the server that `settings` names, or start the embedded one. Does not migrate; see `schema/migrate.py`.

    The embedded server runs for `linger_seconds` after its last user. Raises InvalidSettings for an unreadable URL, and
    DatabaseUnavailable if the server cannot be reached or started.
    """
    server: EmbeddedServer | None = None
    if settings.database_url:
        administrator = parse_address(settings.database_url)
    else:
        server = start_embedded_server(settings.data_dir / "postgres", linger_seconds=linger_seconds)
        administrator = _embedded_database(parse_address(server.url))
    if settings.database_service_url:
        service = parse_address(settings.database_service_url)
    elif server is not None:
        service = administrator.set(username=SERVICE_ROLE)  # the socket of the embedded server asks for no password
    else:
        service = service_login(administrator)
    logins = Logins(administrator, service)
    engine = open_pool(logins.service, settings.database_pool_size, settings.search_audit_share)
    return Database(logins, engine, server)


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


def open_pool(login: URL, connections: int, audit_share: float = 0.0) -> AsyncEngine:
    """Make a pool of at most `connections` connections. The caller disposes of the engine.

    `audit_share`: the share of probes for which `gallery.search` repeats a search exactly, 0 to 1.
    """
    engine = create_async_engine(
        login,
        execution_options={SEARCH_AUDIT_SHARE: audit_share},
        pool_size=connections,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=False,
        connect_args={"prepare_threshold": 5, "options": f"{login.query.get('options', '')} -c jit=off".strip()},
        hide_parameters=True,  # error messages must not contain embeddings
    )
    event.listen(engine.sync_engine, "connect", _prepare_connection)
    return engine


def _prepare_connection(connection: Any, _: object) -> None:
    register_dumpers(connection.driver_connection)
