"""Routes of the platform operator. They accept operator keys only, and never see a tenant's data."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.access.authentication import admit_operator
from service.access.key_format import read_key
from service.access.operator import operator_transaction
from service.database.identifiers import to_text
from service.errors import DatabaseUnavailable, Forbidden, InvalidRequest, NotFound, Unauthenticated
from service.http.callers import key_in
from service.http.openapi import OPERATOR_SECURITY, problems
from service.http.routes import OF_JSON_BODIES, StrictRequest
from service.http.state import ServerState, server_state

SCOPE = "operator"


class OperatorRoute(APIRoute):
    """A route that needs an operator key."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        usual = problems(Unauthenticated, Forbidden, NotFound, InvalidRequest, DatabaseUnavailable)
        options["responses"] = {**usual, **(options.get("responses") or {})}
        options["openapi_extra"] = {"security": OPERATOR_SECURITY, "x-needed-scope": SCOPE}
        super().__init__(path, endpoint, **options)
        if self.body_field is not None:
            self.responses = {**OF_JSON_BODIES, **self.responses}

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler of FastAPI: authenticate first."""
        answer = super().get_route_handler()

        async def answer_operator(request: Request) -> Response:
            await _admit(server_state(request), request)
            return await answer(await StrictRequest.of(request) if self.body_field is not None else request)

        return answer_operator


def operator_router(prefix: str, tag: str) -> APIRouter:
    """A router whose routes all need an operator key."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=OperatorRoute)


async def _admit(service: ServerState, request: Request) -> None:
    key = key_in(request.headers)
    if key is None:
        raise Unauthenticated("send an operator key as X-API-Key or as Authorization: Bearer")
    if read_key(key) is not None:
        raise Forbidden(f"this operation needs an operator key; a tenant's key has no scope {SCOPE!r}", scope=SCOPE)
    operator = await admit_operator(service.database.engine, key)
    request.scope["key"] = to_text(operator.key_id)


async def _transaction(request: Request) -> AsyncIterator[AsyncConnection]:
    """The operator's transaction. It is committed when the route returns, and rolled back if the route raises.

    The default scope of a FastAPI dependency would commit after the answer is sent, so that a failed commit would still
    have answered 200.
    """
    async with operator_transaction(server_state(request).database.engine) as connection:
        yield connection


OperatorTransaction = Annotated[AsyncConnection, Depends(_transaction, scope="function")]
