"""What a running server holds: settings, open database, loaded encoders. Made by `app.py`, read by routes."""

import asyncio
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request

from service.database.connection import Database
from service.encoder.encoders import Encoders
from service.http.readiness import Readiness
from service.settings import Settings


@dataclass(frozen=True)
class ServerState:
    """Everything a request may need besides the request itself."""

    settings: Settings
    database: Database
    encoders: Encoders

    @cached_property
    def readiness(self) -> Readiness:
        """Whether the database can be worked with."""
        return Readiness(self.database.logins)

    @cached_property
    def streams(self) -> asyncio.Semaphore:
        """Turns of streamed answers, each of which holds a connection: half of the pool's."""
        return asyncio.Semaphore(max(1, self.settings.database_pool_size // 2))


def server_state(request: Request) -> ServerState:
    """The server's own parts. A mounted dialect shares the state of the application it is mounted in."""
    service: ServerState = request.app.state.service
    return service


async def _running_service(request: Request) -> ServerState:
    """The same as a dependency: FastAPI would send a plain function to a thread and back, for 0.2 ms."""
    return server_state(request)


CurrentServerState = Annotated[ServerState, Depends(_running_service)]
