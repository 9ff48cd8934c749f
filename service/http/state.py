"""State of a running server: settings, open database, loaded encoders. `app.py` makes it, routes read it."""

import asyncio
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request

from service.database.connection import Database
from service.encoder.encoders import Encoders
from service.encoder.runtime.backpressure import Reservation
from service.http.readiness import Readiness
from service.settings import Settings


@dataclass(frozen=True)
class ServerState:
    """Everything that a request may need besides the request itself."""

    settings: Settings
    database: Database
    encoders: Encoders

    @cached_property
    def readiness(self) -> Readiness:
        """Whether the database is usable."""
        return Readiness(self.database.logins)

    @cached_property
    def streams(self) -> asyncio.Semaphore:
        """Limits streamed answers, which hold a connection each, to half of the pool."""
        return asyncio.Semaphore(max(1, self.settings.database_pool_size // 2))


def server_state(request: Request) -> ServerState:
    """The state of the server. A mounted dialect shares that of the application around it."""
    state: ServerState = request.app.state.server_state
    return state


def request_encoders(request: Request) -> Encoders:
    """The encoders for the images of this request. The first image uses the slot that the route reserved, if any."""
    slot: Reservation | None = getattr(request.state, "image_slot", None)
    encoders = server_state(request).encoders
    return encoders if slot is None else encoders.with_slot(slot)


async def _server_state(request: Request) -> ServerState:
    """The state as a dependency. It is asynchronous, because FastAPI runs a plain function in a thread, which costs 0.2
    ms.
    """
    return server_state(request)


CurrentServerState = Annotated[ServerState, Depends(_server_state)]
