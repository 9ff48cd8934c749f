"""Connections that nobody holds for nothing: a client that sends or reads too slowly is hung up on.

uvicorn limits how long a connection is idle between requests, not how long a request's head takes, how long the
rest of a refused body goes on, or how long an answer waits for a client that does not read it.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""The most from a request's first byte (or the connection's beginning) to the end of its head."""
LINGER_SECONDS = 5.0
"""The most that what is left of a body is still taken, and thrown away, after it was answered already."""


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection with a deadline on everything its client could draw out.

    `patience_seconds` is how long an answer waits for its client to read on, and the most of every other deadline.
    """

    def __init__(self, *arguments: Any, patience_seconds: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience_seconds = patience_seconds
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        """Take what came; only the end of a head, or of a refused body, ends its deadline."""
        super().data_received(data)
        self._set_deadline()

    def on_response_complete(self) -> None:
        """The answer is sent; what is still to come of the request has a deadline now."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop every clock."""
        for clock in (self._deadline, self._stall):
            if clock is not None:
                clock.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read: its patience is ours, then connection and answer are given up."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self._patience_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _set_deadline(self) -> None:
        """Start the clock that the connection's state asks for; one that runs already goes on."""
        seconds = self._seconds_allowed()
        if seconds is None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
        elif self._deadline is None:
            self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _seconds_allowed(self) -> float | None:
        if self.conn.their_state is h11.IDLE:
            return min(HEAD_SECONDS, self._patience_seconds)
        if self.conn.their_state is h11.SEND_BODY and self.cycle is not None and self.cycle.response_complete:
            return min(LINGER_SECONDS, self._patience_seconds)
        return None
