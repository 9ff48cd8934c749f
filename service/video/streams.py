"""The WebRTC streams of a process, and their limits. Needs no package of the extra `video`."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from service.errors import Overloaded, TooManyRequests

_RETRY_AFTER_SECONDS: Final = 10


class Stream(Protocol):
    """An open stream of a tenant."""

    @property
    def tenant_id(self) -> int:
        """The tenant whose limit counts the stream."""
        ...

    async def close(self) -> None:
        """End the stream, and give back everything that it holds."""
        ...


class Streams:
    """The open streams of this process. Its methods run in one event loop."""

    def __init__(self, most: int, most_per_tenant: int, ice_servers: Sequence[str] = ()) -> None:
        self._most = most
        self._most_per_tenant = most_per_tenant
        self.ice_servers = tuple(ice_servers)
        """STUN and TURN servers that peers use. Without any, nothing is sent but to the peer."""
        self._open: set[Stream] = set()

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, stream: Stream) -> None:
        """Count a stream. Raises TooManyRequests for the tenant's limit, Overloaded for that of the process."""
        if sum(other.tenant_id == stream.tenant_id for other in self._open) >= self._most_per_tenant:
            raise TooManyRequests(
                f"{self._most_per_tenant} streams of this tenant are open", retry_after_seconds=_RETRY_AFTER_SECONDS
            )
        if len(self._open) >= self._most:
            raise Overloaded(f"{len(self._open)} streams are open", retry_after_seconds=_RETRY_AFTER_SECONDS)
        self._open.add(stream)

    def leave(self, stream: Stream) -> None:
        """Count the stream no longer. Does nothing if it is not counted."""
        self._open.discard(stream)

    async def close(self) -> None:
        """End all streams."""
        await asyncio.gather(*(stream.close() for stream in list(self._open)))
