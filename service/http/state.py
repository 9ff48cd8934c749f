"""State of a running server: settings, open database, loaded encoders. `app.py` makes it, routes read it."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request

from service.database.connection import Database
from service.encoder.encoders import Encoders
from service.encoder.runtime.backpressure import Reservation
from service.errors import TooManyRequests
from service.http.budgets import ByteBudget
from service.http.readiness import Readiness
from service.settings import Settings

STREAMS_OF_A_TENANT = 4
"""Largest number of streamed answers that one tenant gets from one process at a time."""
_RETRY_STREAM_SECONDS = 10


class Streams:
    """Counts the streamed answers of each tenant. A client may read one for hours, and each takes memory."""

    def __init__(self) -> None:
        self._running: Counter[int] = Counter()

    @contextlib.contextmanager
    def one_of(self, tenant_id: int) -> Iterator[None]:
        """Count one stream of the tenant. Raises TooManyRequests if the tenant has STREAMS_OF_A_TENANT already."""
        if self._running[tenant_id] >= STREAMS_OF_A_TENANT:
            raise TooManyRequests(
                f"{STREAMS_OF_A_TENANT} exports of this tenant are in progress: read one to its end, or close it",
                retry_after_seconds=_RETRY_STREAM_SECONDS,
            )
        self._running[tenant_id] += 1
        try:
            yield
        finally:
            self._running[tenant_id] -= 1
            self._running += Counter()  # forgets tenants without a stream


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
    def held_bytes(self) -> ByteBudget:
        """Bytes of request bodies in memory."""
        return ByteBudget(self.settings.maximum_held_bytes, "memory")

    @cached_property
    def spooled_bytes(self) -> ByteBudget:
        """Bytes of arriving imports on disk."""
        return ByteBudget(self.settings.maximum_spooled_bytes, "disk")

    @cached_property
    def streams(self) -> "Streams":
        """The streamed answers in progress."""
        return Streams()


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
