"""A database whose jobs no worker of another test takes, and workers inside the test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from service.database.connection import Database, open_database
from service.database.schema.migrate import migrate
from service.encoder.encoders import Encoders
from service.encoder.opening import open_encoders
from service.settings import Settings
from service.worker import Handler, run_worker
from tests.conftest import fresh_database
from tests.support.folders import opened

StartWorker = Callable[..., AbstractAsyncContextManager[None]]
"""`async with start_worker(handlers=None)`: a worker in this process while the block runs."""


@pytest.fixture(scope="session")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a service for these tests, with a database that no other test uses."""
    folder = opened(tmp_path_factory.mktemp("jobs"))
    return Settings(_env_file=None, data_dir=folder, database_url=fresh_database(), encoder="fake")


@pytest.fixture(scope="session")
async def database(own_settings: Settings) -> AsyncIterator[Database]:
    """The opened, migrated database of these tests."""
    async with open_database(own_settings) as opened:
        migrate(opened.logins)
        yield opened


@pytest.fixture(scope="session")
def encoders(own_settings: Settings) -> Iterator[Encoders]:
    """The fake encoder, loaded."""
    opened = open_encoders(own_settings)
    yield opened
    opened.close()


@pytest.fixture
def start_worker(database: Database, encoders: Encoders) -> StartWorker:
    """Starts workers in this process."""

    @asynccontextmanager
    async def start(handlers: Mapping[str, Handler] | None = None) -> AsyncIterator[None]:
        stop = asyncio.Event()
        work = asyncio.create_task(run_worker(database, encoders, stop, handlers))
        try:
            yield
        finally:
            stop.set()
            await work

    return start
