"""Routes that need a key: caller and scope are checked before the body is read.

An overloaded server refuses images even before that.

A route names its scope with `@needs("scope")`. A route without one cannot be made.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from service.access.names import check_scopes
from service.access.quotas import CostClass
from service.database.identifiers import to_text
from service.encoder.runtime.backpressure import Reservation
from service.errors import (
    DatabaseUnavailable,
    Forbidden,
    InvalidRequest,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    RequestTimedOut,
    TooManyRequests,
    Unauthenticated,
    UnsupportedMediaType,
)
from service.http.bodies import MAXIMUM_JSON_BYTES, as_plain, is_json, is_multipart, read_body
from service.http.callers import caller_with, check_scope, key_in
from service.http.disconnects import cancel_on_disconnect
from service.http.openapi import SECURITY, problems
from service.http.sessions import answer_and_commit
from service.http.state import ServerState, server_state

OF_JSON_BODIES = problems(UnsupportedMediaType, PayloadTooLarge, RequestTimedOut)
"""Problems of every route with a JSON body."""
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
REFUSED_AFTER_SECONDS = 0.1
_SCOPE = "needed_scope"
_RUNS_MODEL = "runs_model"


def needs(scope: str, *, runs_model: bool = False) -> Callable[[Endpoint], Endpoint]:
    """Set the scope that a key must have, and whether the route runs a model on images."""
    check_scopes([scope])

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _SCOPE, scope)
        setattr(endpoint, _RUNS_MODEL, runs_model)
        return endpoint

    return mark


class KeyedRoute(APIRoute):
    """A route that only a key with the needed scope may use."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.needed_scope: str = getattr(endpoint, _SCOPE, "")
        if not self.needed_scope:
            raise TypeError(f"{endpoint.__qualname__} does not name its scope")
        self.runs_model: bool = getattr(endpoint, _RUNS_MODEL)
        usual = problems(
            *(Unauthenticated, Forbidden, NotFound, InvalidRequest, TooManyRequests, DatabaseUnavailable),
            *([Overloaded] if self.runs_model else []),
        )
        options["responses"] = {**usual, **(options.get("responses") or {})}
        extra = {"security": SECURITY, "x-needed-scope": self.needed_scope}
        options["openapi_extra"] = {**extra, **(options.get("openapi_extra") or {})}
        super().__init__(path, endpoint, **options)
        if self.body_field is not None:
            self.responses = {**OF_JSON_BODIES, **self.responses}

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler of FastAPI: authenticate first."""
        answer = super().get_route_handler()

        async def answer_caller(request: Request) -> Response:
            has_pictures = self.runs_model and is_multipart(request)
            cost_class: CostClass = "inference" if has_pictures else "request"
            key = key_in(request.headers)
            with contextlib.ExitStack() as reservations:
                if has_pictures and key is not None:
                    slot = reservations.enter_context(await _reserve_slot(server_state(request)))
                    request.state.image_slot = slot
                caller = await caller_with(server_state(request), key, cost_class)
                request.state.caller = caller
                request.scope["tenant_id"], request.scope["key"] = caller.tenant_id, to_text(caller.key_id)
                check_scope(caller, self.needed_scope)
                if has_pictures:
                    return await answer_and_commit(request, cancel_on_disconnect(request, answer))
                strict = await StrictRequest.of(request) if self.body_field is not None else request
                return await answer_and_commit(request, answer(strict))

        return answer_caller


async def _reserve_slot(service: ServerState) -> Reservation:
    """Reserve a slot for an image. Raises Overloaded, after a moment, if images are refused now.

    This comes before the key is looked up, because the lookup costs more than the rest of a refusal. The moment keeps
    clients that retry at once from spending the processors on refusals.
    """
    try:
        return service.encoders.reserve_slot()
    except Overloaded:
        await asyncio.sleep(REFUSED_AFTER_SECONDS)
        raise


def keyed_router(prefix: str, tag: str) -> APIRouter:
    """A router whose routes all need a key."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=KeyedRoute)


class StrictRequest(Request):
    """A request whose JSON was parsed strictly and within its limit before FastAPI asks for it."""

    _parsed: Any = None

    @classmethod
    async def of(cls, request: Request) -> "StrictRequest":
        """The request with its body read and parsed. Raises UnsupportedMediaType if it is not declared as JSON."""
        if not is_json(request):
            raise UnsupportedMediaType("send JSON, with Content-Type: application/json")
        strict = cls(request.scope, request.receive)
        strict._body = bytes(await read_body(request, MAXIMUM_JSON_BYTES))
        strict._parsed = as_plain(strict._body)
        return strict

    async def json(self) -> Any:
        """The parsed body."""
        return self._parsed
