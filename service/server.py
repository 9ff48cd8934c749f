"""Runs the application: listening socket, uvicorn, one or several processes, signals.

`app.py` builds the application and knows nothing of sockets or processes; everything here is about the process.
"""

import asyncio
import contextlib
import ctypes
import functools
import gc
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import ChangeReload, Multiprocess

from service.app import create_app
from service.database.connection import open_database
from service.database.schema.migrate import migrate
from service.encoder.opening import open_encoders
from service.errors import InvalidSettings, ServiceError
from service.http.connection_limits import RESERVED_CONNECTIONS, ConnectionLimits
from service.http.connections import MAXIMUM_HEAD_BYTES, BoundedConnection
from service.http.protection import server_options
from service.settings import Settings
from service.telemetry import MULTIPROCESS_FOLDER, configure_logging, logger, structure_native_lines

OWN_FILES = 256
"""File descriptors that are kept for the database, models and temporary files."""
KEEP_ALIVE_SECONDS = 30
GRACE_SECONDS = 20
"""A stopping server gives requests in progress this long to finish."""
HEALTH_SECONDS = 60
"""The supervisor replaces a process that is silent for this long. It is long, because a busy machine is no fault."""
_PR_SET_PDEATHSIG = 1


def serve(settings: Settings) -> None:
    """Serve on SERVER_IP:SERVER_PORT until a signal stops the process. Raises ServiceError if it cannot start."""
    _raise_limit_of_files(settings)
    config = _config(settings, functools.partial(_app_of_process, settings), factory=True)
    listening = _listen(config)
    if settings.env == "development":
        _log_address(listening, settings)
        config.reload_dirs = [Path(__file__).parent]
        ChangeReload(config, uvicorn.Server(config).run, [listening]).run()
        return
    if settings.server_workers == 1:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_serve_alone(settings, listening))
        return
    _serve_in_processes(settings, config, listening)


def _config(settings: Settings, app: Any, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.server_ip,
        port=settings.server_port,
        workers=settings.server_workers,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",  # a WebSocket would leave the limits and deadlines of BoundedConnection
        http=functools.partial(
            BoundedConnection,  # type: ignore[arg-type]
            patience_seconds=settings.client_patience_seconds,
            limits=_limits(settings),
        ),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=HEALTH_SECONDS,
        h11_max_incomplete_event_size=MAXIMUM_HEAD_BYTES,
        **options,
        **server_options(settings),
    )


def _limits(settings: Settings) -> ConnectionLimits:
    """The limits of connections; fewer than the settings ask for if the process may not open that many files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = settings.maximum_connections
    if files != resource.RLIM_INFINITY:
        most = max(1, min(most, files - RESERVED_CONNECTIONS - OWN_FILES))
    return ConnectionLimits(most, settings.maximum_connections_per_address, settings.trusted_proxies)


def _raise_limit_of_files(settings: Settings) -> None:
    """Let the process, and the processes that it starts, open a file for each connection, as far as the system allows.

    The usual limit is 1,024 files. A process at its limit accepts no connection at all.
    """
    wanted = settings.maximum_connections + RESERVED_CONNECTIONS + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _serve_in_processes(settings: Settings, config: uvicorn.Config, listening: socket.socket) -> None:
    """Serve in several processes under a supervisor. Errors at the start are raised here once, not in each process."""
    database = open_database(settings)  # stays open, so the embedded server outlives each child process
    try:
        migrate(database.logins)
        open_encoders(settings).close()
        _log_address(listening, settings)
        with tempfile.TemporaryDirectory(prefix="face-identity-metrics-") as folder:
            os.environ[MULTIPROCESS_FOLDER] = folder  # the child processes add up their metrics in this folder
            supervisor = Multiprocess(config, sockets=[listening])
            supervisor.run()
    finally:
        asyncio.run(database.close())
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise ServiceError("a server process did not start; the log above gives the reason")


async def _serve_alone(settings: Settings, listening: socket.socket) -> None:
    """Serve in this process. Errors at the start are raised, so that the command line can show them its own way."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        _tune_interpreter()
        structure_native_lines()
        _log_address(listening, settings)
        with _signals_ignored_after_shutdown():
            config = _config(settings, app, lifespan="off")
            await uvicorn.Server(config).serve(sockets=[listening])


@contextlib.contextmanager
def _signals_ignored_after_shutdown() -> Iterator[None]:
    """uvicorn shuts down on a signal and then raises the same signal again. The second one is ignored."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(config: uvicorn.Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the socket names its protocol. Without it, Nagle's algorithm delays every
    # answer until the client acknowledges the headers: 40 ms on Linux.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
    except OSError as error:
        listening.close()
        raise InvalidSettings(f"SERVER_IP and SERVER_PORT: {config.host}:{config.port}: {error.strerror}") from error
    listening.set_inheritable(True)
    return listening


def _log_address(listening: socket.socket, settings: Settings) -> None:
    address, port = listening.getsockname()[:2]
    if sys.stderr.isatty():
        _greet(address, port, settings)
        return
    logger("server").info("serving", address=address, port=port, processes=settings.server_workers)


def _greet(address: str, port: int, settings: Settings) -> None:
    """Tell a person at a terminal where to look first. Elsewhere the log has the address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - an address that a browser can open
    host = f"[{host}]" if ":" in host else host
    url = f"{'http' if settings.server_ssl_context is None else 'https'}://{host}:{port}"
    lines = [
        f"Serving at   {url}",
        f"The API page {url}/docs",
        "A first key: face-identity keys create (in another terminal, with the same settings)",
        "Ctrl-C stops the server.",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)


def _app_of_process(settings: Settings) -> FastAPI:
    """The application of one child process. The child dies with its parent."""
    configure_logging(settings.logger_level)
    parent = multiprocessing.parent_process()
    if parent is not None:
        _die_with(parent)
    app = create_app(settings)
    _tune_interpreter()
    structure_native_lines()
    return app


def _tune_interpreter() -> None:
    """Tune garbage collection and thread switching for model threads beside one event loop.

    Objects made before the first request are frozen, because they live as long as the process; the remaining
    collections run less often. Before that, collections took 2 % of the processor time while images came in.
    The shorter switch interval lets a thread that returns from a model take the interpreter after 0.5 ms, not 5 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    sys.setswitchinterval(0.0005)


def _die_with(parent: BaseProcess) -> None:
    """End this process when its parent ends. Otherwise the children of a killed server would keep its port.

    Linux kills the child at once (prctl PR_SET_PDEATHSIG). Elsewhere a thread waits for the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
