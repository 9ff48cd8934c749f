"""Migrates a database to the newest schema, and reads which revision it has.

Migrations go forward only. They run as the administrator; afterwards the service's login is prepared.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

from service.database.locks import MIGRATION_LOCK
from service.database.logins import Logins, connect, prepare_service_login
from service.database.schema.foreign_tables import check_database
from service.database.types import SERVICE_ROLE
from service.errors import DatabaseUnavailable

_PACKAGE = Path(str(files("service")))
OLDEST_SAFE_PGVECTOR = (0, 8, 4)


@dataclass(frozen=True)
class SchemaState:
    """The revision of a database and the versions of its server."""

    revision: str | None
    newest: str
    postgresql: str
    pgvector: str | None

    @property
    def is_current(self) -> bool:
        """Whether the database has the newest revision."""
        return self.revision == self.newest

    @property
    def pgvector_is_safe(self) -> bool:
        """False for versions before 0.8.4, which can corrupt an HNSW index under vacuum."""
        return self.pgvector is not None and _version(self.pgvector) >= OLDEST_SAFE_PGVECTOR


def migrate(logins: Logins, *, into_shared_database: bool = False) -> SchemaState:
    """Apply the missing revisions. Several processes may call it at once, and again.

    Raises InvalidSettings if the database belongs to another application, unless `into_shared_database` is true.
    """
    engine = create_engine(logins.administrator)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
            check_database(connection, into_shared_database=into_shared_database)
            connection.commit()
            _upgrade(connection)
            prepare_service_login(logins)
            return _state(connection)
    finally:
        engine.dispose()


def schema_state(logins: Logins) -> SchemaState:
    """Read the revision and the versions as the service role. Changes nothing."""
    with connect(logins.service) as connection:
        exists = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if exists and exists[0] else None
        versions = connection.execute(
            "SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector')"
        ).fetchone()
    if versions is None:
        raise DatabaseUnavailable("the server does not report its version")
    return SchemaState(row[0] if row else None, _newest(), versions[0], versions[1])


def _upgrade(connection: Connection) -> None:
    alembic = configuration()
    alembic.attributes["connection"] = connection
    command.upgrade(alembic, "head")
    connection.execute(text(f"GRANT SELECT ON alembic_version TO {SERVICE_ROLE}"))
    connection.commit()


def _state(connection: Connection) -> SchemaState:
    revision = MigrationContext.configure(connection).get_current_revision()
    row = connection.execute(
        text("SELECT current_setting('server_version'), extversion FROM pg_extension WHERE extname = 'vector'")
    ).one()
    return SchemaState(revision, _newest(), row[0], row[1])


def configuration() -> Config:
    """Alembic's configuration, with the revisions of this installation.

    A wheel holds the revisions as `service/migrations`; in a checkout they lie beside the package.
    """
    inside = _PACKAGE / "migrations"
    scripts = inside if inside.is_dir() else _PACKAGE.parent / "migrations"
    alembic = Config()
    # Alembic reads a percent sign as an interpolation, and a folder's name may hold one.
    alembic.set_main_option("script_location", str(scripts).replace("%", "%%"))
    alembic.set_main_option("path_separator", "os")
    return alembic


def _newest() -> str:
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


def _version(text_version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text_version.split(".")[:3] if part.isdigit())
