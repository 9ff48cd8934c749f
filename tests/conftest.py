"""One migrated PostgreSQL for the run (embedded, or a fresh database on DATABASE_URL), and tenants for each test."""

import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from service.access.tenants import create_tenant
from service.database.addresses import conninfo, parse_address
from service.database.connection import Database, open_database, open_pool
from service.database.logins import connect
from service.database.schema.migrate import migrate
from service.database.session import tenant_session
from service.settings import Settings
from service.telemetry import configure_logging
from tests.support.encoders import (  # noqa: F401 - fixtures
    dlib_encoder,
    insightface_encoder,
    made_encoder,
    real_encoder,
)
from tests.support.folders import RUN, OpenFolder, opened
from tests.support.waiting import GUARD_SECONDS

pytest_plugins = ["tests.support.packs", "tests.support.legacy_models", "tests.support.pooler", "tests.support.server"]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Put the temporary folders of this run into a folder that no other run changes.

    By default all runs of a user share one parent folder. Each run closes it to other users when it begins, so the
    embedded databases of a run that is still going on fail: PostgreSQL runs as another user and cannot reach its files.
    """
    # Commands of tests stop their database at once: their folders are deleted when the tests end.
    os.environ["FACE_IDENTITY_EMBEDDED_DATABASE_LINGER_SECONDS"] = "0"
    if config.option.basetemp is None:  # a worker of pytest-xdist gets the folder of its run
        folder = tempfile.TemporaryDirectory(prefix=RUN, ignore_cleanup_errors=True)
        config.option.basetemp = str(Path(folder.name) / "run")
        config.add_cleanup(folder.cleanup)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """pytest's folder for one test, which the system user of the embedded database may enter."""
    return opened(tmp_path)


@pytest.fixture(autouse=True)
def log_level() -> None:
    """Log warnings and errors, whatever the level that an earlier test of this process has left."""
    configure_logging("WARNING")


@pytest.fixture(scope="session")
def settings() -> Iterator[Settings]:
    """Settings of a service for this test run, with the fake encoder.

    PostgreSQL runs as another user, so the data are not in pytest's own folder, which only this user may enter.
    """
    with OpenFolder() as folder:
        yield Settings(_env_file=None, data_dir=Path(folder), database_url=fresh_database(), encoder="fake")


def fresh_database() -> str | None:
    """A new database on the server of DATABASE_URL; None for the embedded server."""
    server = os.environ.get("DATABASE_URL")
    if not server:
        return None
    name = f"face_identity_test_{uuid.uuid4().hex[:12]}"
    with connect(parse_address(server)) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return conninfo(parse_address(server).set(database=name))


@pytest.fixture(scope="session")
async def database(settings: Settings) -> AsyncIterator[Database]:
    """The opened, migrated database; its engine logs in as the service role."""
    async with open_database(settings) as opened:
        migrate(opened.logins)
        yield opened


MakePool = Callable[[int], AsyncEngine]
"""`make_pool(connections)`: a pool of the service role for one test."""


@pytest.fixture
async def make_pool(database: Database) -> AsyncIterator[MakePool]:
    """Makes pools whose callers wait long for a connection. They are disposed of, even if the test fails."""
    made: list[AsyncEngine] = []

    def make(connections: int) -> AsyncEngine:
        engine = open_pool(database.logins.service, connections)
        engine.pool._timeout = GUARD_SECONDS  # type: ignore[attr-defined]
        made.append(engine)
        return engine

    yield make
    for engine in made:
        await engine.dispose()


async def new_tenant(database: Database, name: str = "") -> int:
    """Make a tenant that nobody else uses."""
    engine = create_async_engine(database.logins.administrator)
    try:
        async with engine.begin() as connection:
            return await create_tenant(connection, name or f"tenant-{uuid.uuid4().hex[:12]}")
    finally:
        await engine.dispose()


@pytest.fixture
async def tenant_id(database: Database) -> int:
    """A fresh tenant."""
    return await new_tenant(database)


@pytest.fixture
async def other_tenant_id(database: Database) -> int:
    """Another fresh tenant."""
    return await new_tenant(database)


@pytest.fixture
async def session(database: Database, tenant_id: int) -> AsyncIterator[AsyncSession]:
    """A session of the fresh tenant; uncommitted work is rolled back."""
    async with tenant_session(database.engine, tenant_id) as opened:
        yield opened


@pytest.fixture
async def other_session(database: Database, other_tenant_id: int) -> AsyncIterator[AsyncSession]:
    """A session of the other tenant."""
    async with tenant_session(database.engine, other_tenant_id) as opened:
        yield opened
