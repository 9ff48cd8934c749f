"""The server: puts database, encoders, worker and routes together, and runs them.

`create_app` makes the application; what it holds is opened when it starts and given back when it stops.
"""

import asyncio
import contextlib
import functools
import os
import tempfile
from collections.abc import AsyncIterator
from importlib.metadata import version

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from service.api.routers import ROUTERS
from service.database.connection import Database, open_database
from service.database.migration import migrate
from service.encoder.encoders import Encoders
from service.encoder.loading import open_encoders
from service.http.documentation import document
from service.http.problems import install_problems
from service.http.requests import Requests
from service.http.service import Service
from service.settings import Settings
from service.telemetry import MULTIPROCESS_FOLDER, configure_logging, logger
from service.worker import run_worker

MAXIMUM_HEAD_BYTES = 32 * 1024
MAXIMUM_CONNECTIONS = 1000
KEEP_ALIVE_SECONDS = 30
GRACE_SECONDS = 20
"""How long a stopping server lets answers under way come to their end."""
WORKER_GRACE_SECONDS = 10
DESCRIPTION = """People are enrolled from pictures into galleries; a picture or an embedding is then recognized in
one of them. Send a key as `X-API-Key` or `Authorization: Bearer`. Errors are RFC 9457 problems."""


def create_app(settings: Settings) -> FastAPI:
    """The application; its database is opened and migrated when it starts."""
    app = FastAPI(
        title="Face identity service",
        version=version("face-identity-service"),
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=functools.partial(_running, settings),
        redirect_slashes=False,
        redoc_url=None,
    )
    install_problems(app)
    app.add_middleware(Requests)
    for router in ROUTERS:
        app.include_router(router)
    document(app)
    return app


def serve(settings: Settings) -> None:
    """Answer requests on SERVER_IP:SERVER_PORT until the process is told to stop."""
    config = uvicorn.Config(
        functools.partial(_app_of_process, settings),
        factory=True,
        host=settings.server_ip,
        port=settings.server_port,
        workers=settings.server_workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAXIMUM_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=MAXIMUM_HEAD_BYTES,
    )
    socket = config.bind_socket()
    address, port = socket.getsockname()[:2]
    logger("app").info("serving", address=address, port=port, processes=settings.server_workers)
    if settings.server_workers == 1:
        uvicorn.Server(config).run(sockets=[socket])
        return
    with tempfile.TemporaryDirectory(prefix="face-identity-metrics-") as folder:
        os.environ[MULTIPROCESS_FOLDER] = folder  # the processes started next count together there
        Multiprocess(config, sockets=[socket]).run()


def _app_of_process(settings: Settings) -> FastAPI:
    configure_logging(settings.logger_level)
    return create_app(settings)


@contextlib.asynccontextmanager
async def _running(settings: Settings, app: FastAPI) -> AsyncIterator[None]:
    database = await asyncio.to_thread(open_database, settings)
    async with database:
        await asyncio.to_thread(migrate, database.logins)
        encoders = await asyncio.to_thread(open_encoders, settings)
        try:
            app.state.service = Service(settings, database, encoders)
            async with _worker(settings, database, encoders):
                yield
        finally:
            await asyncio.to_thread(encoders.close)


@contextlib.asynccontextmanager
async def _worker(settings: Settings, database: Database, encoders: Encoders) -> AsyncIterator[None]:
    """The worker beside the requests, where the settings want it there."""
    if not settings.worker_in_server:
        yield
        return
    stop = asyncio.Event()
    worker = asyncio.create_task(run_worker(database, encoders, stop), name="worker")
    try:
        yield
    finally:
        stop.set()
        await _ended(worker)


async def _ended(worker: asyncio.Task[None]) -> None:
    try:
        await asyncio.wait_for(worker, WORKER_GRACE_SECONDS)
    except TimeoutError:
        logger("app").warning("the worker did not stop in time; its job is taken up again")
    except Exception as error:
        logger("app").error("the worker broke", kind=type(error).__qualname__)
