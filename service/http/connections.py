"""Deadlines for slow clients: reading a request head, reading the rest of a body, and waiting for the client to read
the answer.

uvicorn limits only how long a connection is idle between requests. A client could hold a connection with a slow head,
an endless rest of a refused body, or an answer that it does not read. Neither uvicorn nor FastAPI has a setting for
these three, so this file overrides uvicorn's private HTTP/1.1 protocol class. That costs us httptools, uvicorn's faster
parser: h11 parses a request in Python.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""Deadline from the first byte of a request (or the start of the connection) to the end of its head."""
LINGER_SECONDS = 5.0
"""Deadline for the rest of a body that arrives after the answer. It is read and thrown away."""


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection with a deadline on everything that a client could prolong.

    `patience_seconds` is how long an answer waits for its client to read on, and the maximum of every other deadline.
    """

    def __init__(self, *arguments: Any, patience_seconds: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience_seconds = patience_seconds
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline for the first request."""
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        """Handle data. Only the end of a head, or of a refused body, ends its deadline."""
        super().data_received(data)
        self._set_deadline()

    def on_response_complete(self) -> None:
        """Start the deadline for the rest of the request after the answer was sent."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        for clock in (self._deadline, self._stall):
            if clock is not None:
                clock.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the deadline for the client to read its answer. Then the connection is closed."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self._patience_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that deadline: the client reads again."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _set_deadline(self) -> None:
        """Start the timer for the state of the connection. A timer that runs already goes on."""
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
