"""Per-request middleware: assigns an id, logs one line, records metrics, and answers unexpected errors.

The log line has the template of the route and never its values. For an error it has the class and the place, never the
text, which may hold input of the client.
"""

import re
import secrets
import time
import traceback

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import telemetry
from service.encoder.runtime.memory import is_lack_of_memory, release_memory
from service.errors import AmbiguousLength, HeadTooLarge, OutOfMemory, ServiceError, TooManyConnections
from service.http.bodies import release_held_bytes
from service.http.connection_limits import HEALTH_PATHS, ONLY_HEALTH
from service.http.connections import MAXIMUM_HEAD_BYTES
from service.http.problems import METHODS, problem
from service.http.protection import protected
from service.http.targets import has_two_lengths, normalize_target

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_LEFT = 499
_IS_HEAD = "is_head"


class AnswerCutShort(Exception):
    """The handler failed after the answer had begun. The connection is closed, so that the client sees that the answer
    is incomplete.
    """


class RequestMiddleware:
    """ASGI middleware, the outermost of the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and make sure that it gets an id, an answer, metrics and a log line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        normalize_target(scope)
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._answer(scope, receive, _Sender(scope, send, request_id))

    async def _answer(self, scope: Scope, receive: Receive, send: "_Sender") -> None:
        start = time.perf_counter()
        lacks_memory = False
        inner = scope if scope["method"] != "HEAD" else _as_get(scope)  # `send` leaves the body out
        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) > MAXIMUM_HEAD_BYTES:
                error = HeadTooLarge(f"headers are limited to {MAXIMUM_HEAD_BYTES} bytes")
                await problem(error, send.request_id)(scope, receive, send)
                return
            if has_two_lengths(scope):
                # what follows on the connection may be part of the body or another request
                await _refuse(AmbiguousLength("send either Content-Length or Transfer-Encoding"), scope, receive, send)
                return
            if scope["state"].get(ONLY_HEALTH) and scope["path"] not in HEALTH_PATHS:
                await _refuse(TooManyConnections("try again in a moment", retry_after_seconds=1), scope, receive, send)
                return
            await self._app(inner, receive, send)
        except ClientDisconnect:
            send.status = send.status or CLIENT_LEFT
        except Exception as error:
            log_failure(error)
            if send.status:
                raise AnswerCutShort from None
            lacks_memory = is_lack_of_memory(error)
            if not lacks_memory:
                answer = problem(ServiceError("the log has details under request_id"), send.request_id)
                await answer(scope, receive, send)
        finally:
            release_held_bytes(scope["state"])
            if lacks_memory:  # here the error no longer holds what the request has allocated
                release_memory()
                await problem(OutOfMemory("try again in a moment"), send.request_id)(scope, receive, send)
            _record(scope["method"], inner, send.status or CLIENT_LEFT, time.perf_counter() - start)


class _Sender:
    """Sends messages on, adds the headers of every answer, and remembers the status.

    JSON ends with a line feed: without it, the prompt of a shell follows the last brace of curl's output. Serializers
    add none, and this is the one place that every answer passes.
    """

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self.request_id = request_id
        self.status = 0
        self._ends_line = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", []), (b"x-request-id", self.request_id.encode())]
            message["headers"], self._ends_line = _with_line_end(protected(self._scope, headers))
        elif self._scope["method"] == "HEAD":
            message = {**message, "body": b""}
        elif self._ends_line and not message.get("more_body"):
            message["body"] = message.get("body", b"") + b"\n"
        await self._send(message)


def _as_get(scope: Scope) -> Scope:
    return {**scope, "method": "GET", "state": {**scope.get("state", {}), _IS_HEAD: True}}


def is_head(request: Request) -> bool:
    """Whether a route answers HEAD with its GET. A route with a costly body may leave the body out."""
    return bool(getattr(request.state, _IS_HEAD, False))


def _with_line_end(headers: list[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The headers with one byte more if the answer is JSON of a known length, and whether it is."""
    known = dict(headers)
    kind, length = known.get(b"content-type", b"").partition(b";")[0], known.get(b"content-length", b"")
    if not (kind == b"application/json" or kind.endswith(b"+json")) or not length.isdigit():
        return headers, False
    longer = b"%d" % (int(length) + 1)
    return [(name, longer if name == b"content-length" else value) for name, value in headers], True


def _request_id(scope: Scope) -> str:
    """The client's own id if it is short and plain, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            request_id = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(request_id):
                return str(request_id)
    return secrets.token_hex(8)


async def _refuse(error: ServiceError, scope: Scope, receive: Receive, send: "_Sender") -> None:
    """Refuse the request and close the connection."""
    await problem(error, send.request_id, {"Connection": "close"})(scope, receive, send)


def _record(method: str, scope: Scope, status: int, seconds: float) -> None:
    method = method if method in METHODS else "other"
    route = getattr(scope.get("route"), "path_format", "none")
    telemetry.REQUESTS.labels(method, route, status).inc()
    telemetry.REQUEST_SECONDS.labels(method, route).observe(seconds)
    telemetry.logger("http").info(
        "request",
        method=method,
        route=route,
        status=status,
        milliseconds=round(seconds * 1000, 2),
        tenant=scope.get("tenant_id"),
        key=scope.get("key"),
    )


def log_failure(error: Exception) -> None:
    """Log an unexpected error: its class and place, never its text."""
    places = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    telemetry.logger("http").error("request broke", kind=type(error).__qualname__, places=places[-12:])
