"""The application: database, encoders, worker and routes put together. `server.py` runs it.

`create_app` only builds it. The lifespan opens the database and the encoders, and closes them in reverse order.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from datetime import timedelta
from importlib.metadata import version

from fastapi import FastAPI

from service.api.routers import ROUTERS
from service.compat.legacy.mount import mount_legacy
from service.database.connection import Database, open_database
from service.database.schema.migrate import migrate
from service.encoder.devices import log_devices
from service.encoder.encoders import Encoders
from service.encoder.opening import open_encoders
from service.errors import InvalidSettings
from service.http.openapi import document, operation_id
from service.http.problems import install_problems
from service.http.protection import allow_origins
from service.http.request_log import RequestMiddleware
from service.http.state import ServerState
from service.settings import Settings
from service.telemetry import logger
from service.video.streams import Streams
from service.worker import run_worker

WORKER_GRACE_SECONDS = 10
DESCRIPTION = """Enroll people from images into galleries, then recognize an image or an embedding against a gallery.
Send an API key as `X-API-Key` or `Authorization: Bearer`. Errors are RFC 9457 problems."""


def create_app(settings: Settings) -> FastAPI:
    """The application. Its lifespan opens the database and migrates it."""
    app = FastAPI(
        title="Face identity service",
        version=version("face-identity-service"),
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=functools.partial(_lifespan, settings),
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    install_problems(app)
    allow_origins(app, settings)
    app.add_middleware(RequestMiddleware)
    for router in ROUTERS:
        app.include_router(router)
    document(app)
    if settings.legacy_api != "off":
        _check_legacy(settings)
        mount_legacy(app)
    return app


def _check_legacy(settings: Settings) -> None:
    """Refuse LIVENESS=enforce beside the legacy API, which cannot report liveness and would bypass the check."""
    if settings.liveness == "enforce":
        raise InvalidSettings("LIVENESS=enforce does not protect the legacy API: set LEGACY_API=off as well")


@contextlib.asynccontextmanager
async def _lifespan(settings: Settings, app: FastAPI) -> AsyncIterator[None]:
    timeout_seconds = settings.database_statement_timeout_seconds
    database = await asyncio.to_thread(open_database, settings, statement_timeout_seconds=timeout_seconds)
    async with database:
        await asyncio.to_thread(migrate, database.logins)
        encoders = await asyncio.to_thread(open_encoders, settings)
        try:
            # Load the models before the server is ready, so that the first request is not slow.
            await asyncio.to_thread(encoders.load)
            log_devices((space.name for space in encoders.spaces), settings)
            app.state.server_state = ServerState(settings, database, encoders)
            async with _worker_beside(settings, database, encoders), _streams(settings, app):
                yield
        finally:
            await asyncio.to_thread(encoders.close)


@contextlib.asynccontextmanager
async def _streams(settings: Settings, app: FastAPI) -> AsyncIterator[None]:
    """The WebRTC streams of the routes. They end before the encoders are closed."""
    streams = Streams(settings.maximum_streams, settings.maximum_streams_per_tenant, settings.ice_servers)
    app.state.streams = streams
    try:
        yield
    finally:
        await streams.close()


@contextlib.asynccontextmanager
async def _worker_beside(settings: Settings, database: Database, encoders: Encoders) -> AsyncIterator[None]:
    """Run the worker in this process if WORKER_IN_SERVER is on."""
    if not settings.worker_in_server:
        yield
        return
    stop = asyncio.Event()
    retention = timedelta(days=settings.job_retention_days)
    worker = asyncio.create_task(run_worker(database, encoders, stop, retention=retention), name="worker")
    try:
        yield
    finally:
        stop.set()
        await _wait_for_end(worker)


async def _wait_for_end(worker: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait_for(worker, WORKER_GRACE_SECONDS)
    except TimeoutError:
        logger("app").warning("worker did not stop in time; another worker repeats its job")
    except Exception as error:
        logger("app").error("worker failed", kind=type(error).__qualname__)
