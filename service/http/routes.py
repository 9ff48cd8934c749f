"""Routes that need a key, of a tenant or of the operator: caller and scope are checked before the body is read, and
before an image takes a place in the queue, so that strangers take nobody's place.

An overloaded server refuses images of the tenant that overloads it before it reads them. The work of every route ends
when its client disconnects.

A route for tenants names its scope with `@needs("scope")`. A route without a scope cannot be made.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.responses import Response

from service.access.authentication import charge, give_back
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
    ServiceError,
    StatementTimedOut,
    TooManyRequests,
    Unauthenticated,
    UnsupportedMediaType,
)
from service.http.bodies import (
    MAXIMUM_JSON_BYTES,
    announces_image,
    as_plain,
    is_image,
    is_json,
    is_multipart,
    peek,
    read_body,
)
from service.http.callers import OPERATOR_SCOPE, caller_with, check_scope, current_caller, key_in, operator_with
from service.http.disconnects import cancel_on_disconnect
from service.http.openapi import OPERATOR_SECURITY, SECURITY, join_responses, problems
from service.http.problems import unknown_parameters
from service.http.sessions import answer_and_commit
from service.http.state import ServerState, server_state
from service.http.targets import restore_slashes

Answer = Callable[[Request], Coroutine[Any, Any, Response]]
"""The handler that FastAPI makes of a route function."""
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
REFUSED_AFTER_SECONDS = 0.1
_PROBLEMS_OF_JSON_BODIES = problems(UnsupportedMediaType, PayloadTooLarge, RequestTimedOut)
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
    """A route that authenticates its caller by a key before the body is read. A JSON body is strict JSON.

    Subclasses say which keys they accept: see `authenticate_and_answer`.
    """

    needed_scope = ""
    """The scope that a key must have. `needs` sets it for each endpoint of a tenant."""
    security = SECURITY
    usual_problems: tuple[type[ServiceError], ...]

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.needed_scope = self.needed_scope or getattr(endpoint, _SCOPE, "")
        if not self.needed_scope:
            raise TypeError(f"{endpoint.__qualname__} does not name its scope")
        self.runs_model: bool = getattr(endpoint, _RUNS_MODEL, False)
        usual = problems(*self.usual_problems, *([Overloaded] if self.runs_model else []))
        options["responses"] = join_responses(usual, options.get("responses") or {})
        extra = {"security": self.security, "x-needed-scope": self.needed_scope}
        options["openapi_extra"] = {**extra, **(options.get("openapi_extra") or {})}
        super().__init__(path, endpoint, **options)
        if self.body_field is not None:
            self.responses = join_responses(_PROBLEMS_OF_JSON_BODIES, self.responses)
        self.parameters = _query_parameters(self.dependant)
        """The names of the query parameters."""

    def check_query(self, request: Request) -> None:
        """Raises InvalidRequest for query parameters that the route lacks: a misspelled one would be ignored."""
        unknown = [name for name in request.query_params if name not in self.parameters]
        if unknown:
            raise unknown_parameters(unknown, self.parameters)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler of FastAPI: authenticate first."""
        answer = super().get_route_handler()

        async def answer_request(request: Request) -> Response:
            restore_slashes(request.scope)
            return await self.authenticate_and_answer(request, server_state(request), answer)

        return answer_request

    async def authenticate_and_answer(self, request: Request, state: ServerState, answer: Answer) -> Response:
        """Authenticate the caller, then answer with `answer`. Raises Unauthenticated or Forbidden."""
        raise NotImplementedError

    def strictly(self, answer: Answer) -> Answer:
        """The handler for a request whose JSON is parsed strictly before, if the route has a JSON body."""
        if self.body_field is None:
            return answer

        async def answer_strictly(request: Request) -> Response:
            return await answer(await StrictRequest.of(request))

        return answer_strictly


class TenantRoute(KeyedRoute):
    """A route for the keys of tenants that have the needed scope. It commits the session of the request."""

    usual_problems = (
        *(Unauthenticated, Forbidden, NotFound, InvalidRequest, TooManyRequests),
        *(DatabaseUnavailable, StatementTimedOut),
    )

    async def authenticate_and_answer(self, request: Request, state: ServerState, answer: Answer) -> Response:
        key = key_in(request.headers)
        if self.runs_model and (is_multipart(request) or is_image(request)):
            await self._authenticate(request, state, key, "inference")
            with await self._reserve_charged_slot(request, state) as slot:
                request.state.image_slot = slot
                return await answer_and_commit(request, cancel_on_disconnect(request, answer))
        await self._authenticate(request, state, key, "request")
        if self.runs_model and is_json(request):
            return await self._answer_json(await peek(request), state, answer)
        return await answer_and_commit(request, cancel_on_disconnect(request, self.strictly(answer)))

    async def _answer_json(self, request: Request, state: ServerState, answer: Answer) -> Response:
        """Answer a request with an image or embeddings as JSON. An image needs a slot and is charged, as in a form."""
        if not announces_image(request):
            return await answer_and_commit(request, cancel_on_disconnect(request, answer))
        with await _reserve_slot(state) as slot:
            request.state.image_slot = slot
            await charge(state.database.engine, current_caller(request), "inference", 1)
            return await answer_and_commit(request, cancel_on_disconnect(request, answer))

    async def _reserve_charged_slot(self, request: Request, state: ServerState) -> Reservation:
        """Reserve a slot for an image that is charged already. A refusal gives the charge back."""
        try:
            return await _reserve_slot(state)
        except Overloaded:
            await give_back(state.database.engine, current_caller(request), "inference", 1)
            raise

    async def _authenticate(self, request: Request, state: ServerState, key: str | None, cost: CostClass) -> None:
        caller = await caller_with(state, key, cost)
        request.state.caller = caller
        request.scope["tenant_id"], request.scope["key"] = caller.tenant_id, to_text(caller.key_id)
        check_scope(caller, self.needed_scope)
        self.check_query(request)


class OperatorRoute(KeyedRoute):
    """A route for operator keys. It never sees a tenant's data."""

    needed_scope = OPERATOR_SCOPE
    security = OPERATOR_SECURITY
    usual_problems = (Unauthenticated, Forbidden, NotFound, InvalidRequest, DatabaseUnavailable, StatementTimedOut)

    async def authenticate_and_answer(self, request: Request, state: ServerState, answer: Answer) -> Response:
        operator = await operator_with(state, key_in(request.headers))
        request.scope["key"] = to_text(operator.key_id)
        self.check_query(request)
        return await cancel_on_disconnect(request, self.strictly(answer))


def _query_parameters(dependant: Dependant) -> frozenset[str]:
    """The names of the query parameters of an endpoint and of what it depends on."""
    own = frozenset(field.alias for field in dependant.query_params)
    return own.union(*(_query_parameters(inner) for inner in dependant.dependencies))


async def _reserve_slot(state: ServerState) -> Reservation:
    """Reserve a slot for an image of the caller. Raises Overloaded, after a moment, if it would be refused now.

    The key is known by then: places that anybody could take would be taken from tenants. The moment keeps clients that
    retry at once from spending the processors on refusals.
    """
    try:
        return state.encoders.reserve_slot()
    except Overloaded:
        await asyncio.sleep(REFUSED_AFTER_SECONDS)
        raise


def keyed_router(prefix: str, tag: str) -> APIRouter:
    """A router whose routes all need the key of a tenant."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=TenantRoute)


def operator_router(prefix: str, tag: str) -> APIRouter:
    """A router whose routes all need an operator key."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=OperatorRoute)


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
