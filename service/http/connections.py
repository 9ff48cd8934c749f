"""Deadlines for slow clients: reading a request head, reading the rest of a body, and waiting for the client to read
the answer. A refusal reaches its client also if the connection ends with it. Limits of open connections.

uvicorn limits only how long a connection is idle between requests. A client could hold a connection with a slow head,
an endless rest of a refused body, or an answer that it does not read. And uvicorn closes a connection without
keep-alive (HTTP/1.0, `Connection: close`) right after the answer. If the client is still sending then, the kernel
resets the connection, and the reset overtakes the answer: behind a proxy that speaks HTTP/1.0, a 401 became a 502.
Its limit of connections refuses every request over the limit, those for health too, and its own refusals are plain
text without security headers. Neither uvicorn nor FastAPI has a setting for these, so this file overrides uvicorn's
private HTTP/1.1 protocol class. That costs us httptools, uvicorn's faster parser: h11 parses a request in Python.
"""

import asyncio
import secrets
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import ServiceError, TooManyConnections
from service.http.connection_limits import ONLY_HEALTH, ConnectionLimits
from service.http.problems import problem
from service.http.protection import protected
from service.http.strict_parser import StrictParser

HEAD_SECONDS = 10.0
"""Deadline from the first byte of a request (or the start of the connection) to the end of its head."""
MAXIMUM_HEAD_BYTES = 32 * 1024
LINGER_SECONDS = 5.0
"""Deadline for the rest of a body that arrives after the answer. It is read and thrown away."""
LEAST_BYTES_PER_SECOND = 16 * 1024
"""Speed at which a client must read while the answer waits for it. `patience_seconds` is how long it may fall behind.

Without it, a client that takes a few bytes before each deadline holds its answer for weeks."""
LINGER_BYTES = 128 * 1024 * 1024
"""Most bytes that are thrown away before a connection is closed: reading them costs processor time."""


class _Transport:
    """A transport that leaves the closing to its connection. uvicorn calls `close` directly after the answer."""

    def __init__(self, transport: asyncio.Transport, connection: "BoundedConnection") -> None:
        self._transport = transport
        self._connection = connection

    def close(self) -> None:
        self._connection.close_after_request()

    def is_closing(self) -> bool:
        return self._connection.lingers or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def patience_after(left: float, most: float, waited_seconds: float, read_bytes: int) -> float:
    """The seconds that an answer may still wait, after its client took `waited_seconds` to read `read_bytes`."""
    return max(0.0, min(most, left - waited_seconds + read_bytes / LEAST_BYTES_PER_SECOND))


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection with a deadline on everything that a client could prolong.

    `patience_seconds` is how long an answer waits for its client to read on, and the maximum of every other deadline.
    `limits` counts the connections of the process.
    """

    def __init__(self, *arguments: Any, patience_seconds: float, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn: StrictParser = StrictParser(self.config.h11_max_incomplete_event_size or MAXIMUM_HEAD_BYTES)
        self._limits = limits
        self._patience_seconds = patience_seconds
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._socket: asyncio.Transport
        self._patience_left = patience_seconds
        self._waiting_since = 0.0
        self._waiting_bytes = 0
        self._thrown_away = 0
        self.lingers = False
        """Whether the answer is complete and the rest of the request is thrown away before the connection is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline for the first request."""
        self._socket = transport
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self)))
        if not self._limits.enter(self, self.client[0] if self.client else None):
            self._refuse(TooManyConnections("try again in a moment", retry_after_seconds=1))
            return
        if self._limits.is_over:
            self.app_state = {**self.app_state, ONLY_HEALTH: True}
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        """Handle data. Only the end of a head, or of a refused body, ends its deadline."""
        if self.lingers:
            self._throw_away(data)
            return
        super().data_received(data)
        self._note_request()
        self._set_deadline()

    def close_for_another(self) -> None:
        """Close the idle connection at once."""
        self._socket.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the signature of uvicorn
        """Answer a request that is no HTTP, as every error is answered. `msg` has no reason: the parser knows it."""
        if self.cycle is not None:
            self.cycle.disconnected = True  # an answer of the application would be the second one
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._refuse(self.conn.refusal)
        else:
            self._socket.close()

    def _refuse(self, error: ServiceError) -> None:
        """Answer with the error before any request reaches the application, and close the connection."""
        answer = problem(error, secrets.token_hex(8), {"Connection": "close"})
        headers = protected({"scheme": self.scheme}, answer.raw_headers)
        reason = HTTPStatus(error.status).phrase.encode()
        for event in (
            h11.Response(status_code=error.status, headers=headers, reason=reason),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self._socket.write(self.conn.send(event) or b"")
        self.transport.close()

    def _note_request(self) -> None:
        """Tell the limits whether a request is in progress."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._limits.begin_request(self)

    def close_after_request(self) -> None:
        """Close the connection; if the client is still sending its request, after the rest of it or the deadline.

        The end of the answer is sent at once, so that a client that reads until the end does not wait. TLS has no such
        half-open state; there a request that is no HTTP, whose end cannot be known, is closed at once.
        """
        is_sending = self.conn.their_state is h11.SEND_BODY
        is_unreadable = self.conn.their_state is h11.ERROR and self._socket.can_write_eof()
        if self.lingers or self._socket.is_closing() or not (is_sending or is_unreadable):
            self._socket.close()
            return
        self.lingers = True
        if self._socket.can_write_eof():
            self._socket.write_eof()
        self.flow.resume_reading()
        self._stop_deadline()
        self._set_deadline()

    def on_response_complete(self) -> None:
        """Start the deadline for the rest of the request after the answer was sent."""
        self._limits.end_request(self)
        super().on_response_complete()
        self._patience_left = self._patience_seconds
        self._note_request()  # the next request may have been waiting
        if self.conn.their_state is h11.SEND_BODY:
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._limits.leave(self)
        for clock in (self._deadline, self._stall):
            if clock is not None:
                clock.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the deadline for the client to read its answer. Then the connection is closed."""
        super().pause_writing()
        if self._stall is None:
            self._waiting_since, self._waiting_bytes = self.loop.time(), self._socket.get_write_buffer_size()
            self._stall = self.loop.call_later(self._patience_left, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that deadline: the client reads again. It gets back as much patience as the bytes that it read earn."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
            read = self._waiting_bytes - self._socket.get_write_buffer_size()
            self._patience_left = patience_after(
                self._patience_left, self._patience_seconds, self.loop.time() - self._waiting_since, read
            )

    def _set_deadline(self) -> None:
        """Start the timer for the state of the connection. A timer that runs already goes on."""
        seconds = self._seconds_allowed()
        if seconds is None:
            self._stop_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(seconds, self._socket.close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _throw_away(self, data: bytes) -> None:
        """Drop data of a request that is answered already, and close the connection at its end."""
        self._thrown_away += len(data)
        if self._thrown_away > LINGER_BYTES or self._ends_with(data):
            self._socket.close()

    def _ends_with(self, data: bytes) -> bool:
        """Whether the body of the request ends in `data`. Only h11 knows, because a body may be chunked."""
        if self.conn.their_state is h11.ERROR:
            return False
        self.conn.receive_data(data)
        try:
            while isinstance(event := self.conn.next_event(), h11.Data):
                pass
        except h11.RemoteProtocolError:
            return True
        return event is not h11.NEED_DATA

    def _seconds_allowed(self) -> float | None:
        if self.lingers:
            return min(LINGER_SECONDS, self._patience_seconds)
        if self.conn.their_state is h11.IDLE:
            return min(HEAD_SECONDS, self._patience_seconds)
        if self.conn.their_state is h11.SEND_BODY and self.cycle is not None and self.cycle.response_complete:
            return min(LINGER_SECONDS, self._patience_seconds)
        return None
