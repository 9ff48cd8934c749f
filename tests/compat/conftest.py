"""The application with the legacy dialect in its modes, on the run's database, with the fake encoder."""

import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.database.connection import Database
from service.settings import Settings
from tests.support.server import open_client


@pytest.fixture(scope="session")
async def open_application(settings: Settings, database: Database) -> AsyncIterator[FastAPI]:
    """An application that requires no key of legacy callers; they act for a tenant of this run's own."""
    changes = {"legacy_api": "open", "legacy_tenant": f"legacy-{uuid.uuid4().hex[:12]}", "worker_in_server": False}
    changes["legacy_hosts"] = ["service"]  # the name that clients of tests send
    app = create_app(settings.model_copy(update=changes))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def gnosis(open_application: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The legacy caller: it sends no key."""
    async with open_client(open_application) as client:
        yield client
