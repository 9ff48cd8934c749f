"""Opening the database: which server, which login, and an engine of pooled connections for the service role.

`DATABASE_URL` empty: the embedded server. Its login, or the one `DATABASE_URL` names, prepares the database;
the service itself logs in as a role that is neither owner, superuser nor BYPASSRLS.
"""

import hashlib
import hmac
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg
from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.database.embedded.server import EmbeddedServer, start_embedded_server
from service.database.types import SERVICE_ROLE
from service.database.values import register_dumpers
from service.errors import DatabaseUnavailable, InvalidSettings
from service.settings import Settings

DATABASE_NAME = "face_identity"
SEARCH_AUDIT_SHARE = "search_audit_share"
"""The engine's execution option that holds the share of probes that are searched exactly too."""


@dataclass(frozen=True)
class Logins:
    """Two ways into one database: the administrator's, and the service's own."""

    administrator: URL
    service: URL


class Database:
    """An open database. `engine` speaks as the service role; `close` gives everything back."""

    def __init__(self, logins: Logins, engine: AsyncEngine, server: EmbeddedServer | None) -> None:
        self.logins = logins
        self.engine = engine
        self._server = server

    async def close(self) -> None:
        """Close the pool and leave the embedded server (the last process to leave stops it)."""
        await self.engine.dispose()
        if self._server is not None:
            self._server.stop()

    async def __aenter__(self) -> "Database":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def open_database(settings: Settings) -> Database:
    """Find or start the server that `settings` names. Nothing is migrated here; see `migration.py`."""
    server: EmbeddedServer | None = None
    if settings.database_url:
        administrator = parse_url(settings.database_url)
    else:
        server = start_embedded_server(settings.data_dir / "postgres")
        administrator = _embedded_database(parse_url(server.url))
    logins = Logins(administrator, _service_login(administrator, settings.database_service_url))
    engine = open_pool(logins.service, settings.database_pool_size, settings.search_audit_share)
    return Database(logins, engine, server)


def parse_url(text: str) -> URL:
    """A libpq-style URL as SQLAlchemy's, with psycopg 3 as its only driver."""
    try:
        return make_url(text).set(drivername="postgresql+psycopg")
    except ArgumentError as error:
        raise InvalidSettings("DATABASE_URL is not of the form postgresql://user:password@host/database") from error


def libpq_url(url: URL) -> str:
    """The URL as psycopg itself takes it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def connect(url: URL) -> psycopg.Connection:
    """One connection outside the pool, in autocommit."""
    try:
        return psycopg.connect(libpq_url(url), autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"no connection to {url.host or 'the database'}: {type(error).__name__}") from error


def service_password(administrator: URL) -> str:
    """The service role's password: every process that knows the administrator's login finds the same one."""
    secret = (administrator.password or "") if isinstance(administrator.password, str | None) else ""
    return hmac.new(secret.encode(), b"face identity service role", hashlib.sha256).hexdigest()


def _service_login(administrator: URL, service_url: str | None) -> URL:
    if service_url:
        return parse_url(service_url)
    if _is_unprivileged(administrator):
        return administrator
    return administrator.set(username=SERVICE_ROLE, password=service_password(administrator))


def _is_unprivileged(login: URL) -> bool:
    """True where the login given is already one that row-level security holds."""
    query = "SELECT NOT (rolsuper OR rolbypassrls OR rolcreaterole) FROM pg_roles WHERE rolname = current_user"
    with connect(login) as connection:
        row = connection.execute(query).fetchone()
    return bool(row and row[0])


def _embedded_database(maintenance: URL) -> URL:
    with connect(maintenance) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE_NAME]).fetchone()
        if found is None:
            try:
                connection.execute(f"CREATE DATABASE {DATABASE_NAME}")
            except psycopg.errors.DuplicateDatabase:  # another process was first
                pass
            except psycopg.errors.UniqueViolation:  # the same, seen a moment earlier
                pass
    return maintenance.set(database=DATABASE_NAME)


def open_pool(login: URL, connections: int, audit_share: float = 0.0) -> AsyncEngine:
    """An engine of at most `connections`; whoever opens it disposes of it.

    `audit_share`: the share of probes that a search over this engine checks, for `gallery.search.audit`.
    """
    engine = create_async_engine(
        login,
        execution_options={SEARCH_AUDIT_SHARE: audit_share},
        pool_size=connections,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=False,
        connect_args={"prepare_threshold": 5, "options": "-c jit=off"},
        hide_parameters=True,  # embeddings never appear in an error's text
    )
    event.listen(engine.sync_engine, "connect", _prepare_connection)
    return engine


def _prepare_connection(connection: Any, _: object) -> None:
    register_dumpers(connection.driver_connection)
