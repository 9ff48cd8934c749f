"""A worker in the test's own event loop, on the shipped fake encoder."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.database.connection import Database
from service.encoder.encoders import Encoders
from service.encoder.loading import open_encoders
from service.settings import Settings
from service.worker import run_worker


@pytest.fixture(scope="session")
def encoders(settings: Settings) -> Encoders:
    """The fake encoder, loaded."""
    return open_encoders(settings)


@pytest.fixture
async def worker(database: Database, encoders: Encoders) -> AsyncIterator[None]:
    """A worker that runs during the test."""
    stop = asyncio.Event()
    work = asyncio.create_task(run_worker(database, encoders, stop))
    yield
    stop.set()
    await work
