"""A server with only the connections of the service: uvicorn, BoundedConnection, and an application of the test."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from service.http.connection_limits import ConnectionLimits
from service.http.connections import BoundedConnection
from tests.support.waiting import GUARD_SECONDS


@contextlib.asynccontextmanager
async def served(app: ASGIApp, limits: ConnectionLimits, **options: Any) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """The running server of `app`, and its port. `options` are those of uvicorn."""
    protocol = functools.partial(BoundedConnection, patience_seconds=GUARD_SECONDS, limits=limits)
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, http=protocol, **options)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield server, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task
