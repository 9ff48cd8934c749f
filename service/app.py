"""The server: puts database, encoders, worker and routes together, and runs them.

`create_app` makes the application; what it holds is opened when it starts and given back when it stops.
"""

import asyncio
import contextlib
import ctypes
import functools
import gc
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import ChangeReload, Multiprocess

from service.api.routers import ROUTERS
from service.compat.legacy.mount import mount_legacy
from service.database.connection import Database, open_database
from service.database.migration import migrate
from service.encoder.encoders import Encoders
from service.encoder.loading import open_encoders
from service.errors import InvalidSettings, ServiceError
from service.http.connections import BoundedConnection
from service.http.documentation import document, operation_id
from service.http.problems import install_problems
from service.http.protection import allow_origins, server_options
from service.http.requests import MAXIMUM_HEAD_BYTES, Requests
from service.http.service import Service
from service.settings import Settings
from service.telemetry import MULTIPROCESS_FOLDER, configure_logging, logger
from service.worker import run_worker

MAXIMUM_CONNECTIONS = 1000
KEEP_ALIVE_SECONDS = 30
GRACE_SECONDS = 20
"""How long a stopping server lets answers under way come to their end."""
WORKER_GRACE_SECONDS = 10
HEALTH_SECONDS = 60
"""A process silent for so long is taken for hung: a busy machine is no reason to kill it."""
_PR_SET_PDEATHSIG = 1
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
        generate_unique_id_function=operation_id,
        docs_url=None,
        redoc_url=None,
    )
    install_problems(app)
    allow_origins(app, settings)
    app.add_middleware(Requests)
    for router in ROUTERS:
        app.include_router(router)
    document(app)
    if settings.legacy_api != "off":
        _check_legacy(settings)
        mount_legacy(app)
    return app


def _check_legacy(settings: Settings) -> None:
    """The legacy dialect has no words for a picture that is not alive: beside it a gate would have a way around."""
    if settings.liveness == "enforce":
        raise InvalidSettings("LIVENESS=enforce does not reach the legacy API: set LEGACY_API=off with it")


def serve(settings: Settings) -> None:
    """Answer requests on SERVER_IP:SERVER_PORT until told to stop; ServiceError where it cannot start."""
    config = uvicorn.Config(
        functools.partial(_app_of_process, settings),
        factory=True,
        host=settings.server_ip,
        port=settings.server_port,
        workers=settings.server_workers,
        log_config=None,
        access_log=False,
        server_header=False,
        http=functools.partial(BoundedConnection, patience_seconds=settings.client_patience_seconds),  # type: ignore[arg-type]
        limit_concurrency=MAXIMUM_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=HEALTH_SECONDS,
        h11_max_incomplete_event_size=MAXIMUM_HEAD_BYTES,
        **server_options(settings),
    )
    listening = _listen(config)
    if settings.env == "development":
        _say_serving(listening, settings)
        config.reload_dirs = [Path(__file__).parent]
        ChangeReload(config, uvicorn.Server(config).run, [listening]).run()
        return
    if settings.server_workers == 1:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve_alone(settings, config, listening))
        return
    _serve_in_processes(settings, config, listening)


def _serve_in_processes(settings: Settings, config: uvicorn.Config, listening: socket.socket) -> None:
    """Serve in processes that this one watches over. What cannot be opened raises here, once, as for one process."""
    database = open_database(settings)  # held to the end, so that an embedded server outlives a process of ours
    try:
        migrate(database.logins)
        open_encoders(settings).close()
        _say_serving(listening, settings)
        with tempfile.TemporaryDirectory(prefix="face-identity-metrics-") as folder:
            os.environ[MULTIPROCESS_FOLDER] = folder  # the processes started next count together there
            supervisor = Multiprocess(config, sockets=[listening])
            supervisor.run()
    finally:
        asyncio.run(database.close())
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise ServiceError("a process of the server did not start; the log above says why")


async def _serve_alone(settings: Settings, config: uvicorn.Config, listening: socket.socket) -> None:
    """Serve in this process. What cannot be opened raises here, so that the command line can say it in its own way."""
    app = create_app(settings)
    config.app, config.factory, config.lifespan = app, False, "off"
    async with app.router.lifespan_context(app):
        _favor_throughput()
        _say_serving(listening, settings)
        with _signals_that_only_stop():
            await uvicorn.Server(config).serve(sockets=[listening])


@contextlib.contextmanager
def _signals_that_only_stop() -> Iterator[None]:
    """uvicorn stops in order when it is told to, and then sends itself the signal again: here that means nothing."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(config: uvicorn.Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # With its protocol named, asyncio sends at once: otherwise every answer waits 40 ms for an acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
    except OSError as error:
        listening.close()
        raise InvalidSettings(f"SERVER_IP and SERVER_PORT: {config.host}:{config.port}: {error.strerror}") from error
    listening.set_inheritable(True)
    return listening


def _say_serving(listening: socket.socket, settings: Settings) -> None:
    address, port = listening.getsockname()[:2]
    logger("app").info("serving", address=address, port=port, processes=settings.server_workers)


def _app_of_process(settings: Settings) -> FastAPI:
    """The application of one of several processes, which is gone at once when the one that started it is."""
    configure_logging(settings.logger_level)
    parent = multiprocessing.parent_process()
    if parent is not None:
        _end_with(parent)
    app = create_app(settings)
    _favor_throughput()
    return app


def _favor_throughput() -> None:
    """Settings of the interpreter for a process whose threads run models beside an event loop.

    The collector never looks again at what was made before the first request, and seldom at the rest: its passes
    took 2 % of the processors while pictures came in. A thread that comes back from a network waits at most half a
    millisecond for the interpreter, not five, while its processor has nothing else to do.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    sys.setswitchinterval(0.0005)


def _end_with(parent: BaseProcess) -> None:
    """Let this process end with its parent: otherwise a killed server would keep its port.

    Linux sees to it at once; elsewhere a thread waits.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.asynccontextmanager
async def _running(settings: Settings, app: FastAPI) -> AsyncIterator[None]:
    database = await asyncio.to_thread(open_database, settings)
    async with database:
        await asyncio.to_thread(migrate, database.logins)
        encoders = await asyncio.to_thread(open_encoders, settings)
        try:
            await asyncio.to_thread(encoders.load)  # the first request need not wait, and readiness tells the truth
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
