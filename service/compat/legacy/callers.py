"""Authentication of legacy callers, before the body is read.

A key may also come as the password of HTTP Basic, so that it fits into a URL: `http://key:fik_...@host:8000`. With
LEGACY_API=open a caller without a key acts for a tenant of its own.
"""

import base64
import binascii
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.access.authentication import NO_KEY, Caller, charge
from service.access.tenants import find_or_create_tenant
from service.compat.legacy.errors import answer_error
from service.compat.legacy.open_mode import check_origin, open_quotas
from service.http.callers import caller_with, check_scope, key_in
from service.http.disconnects import cancel_on_disconnect
from service.http.sessions import answer_and_commit
from service.http.state import ServerState, server_state
from service.turns import act_for

SCOPE = "recognize"
ENROLL = "enroll"
"""The scope that a dataset needs besides: its people are stored."""


class LegacyRoute(APIRoute):
    """A route of the dialect: authenticates, then runs the route. Every error gets the shape of the dialect."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        extra = {"x-needed-scope": SCOPE, **(options.pop("openapi_extra", None) or {})}
        super().__init__(path, endpoint, openapi_extra=extra, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler of FastAPI: authenticate first."""
        answer = super().get_route_handler()

        async def answer_caller(request: Request) -> Response:
            caller = await caller_of(server_state(request), request.headers)
            check_scope(caller, SCOPE)
            request.state.caller = caller
            request.scope["tenant_id"] = caller.tenant_id
            act_for(caller.tenant_id)
            return await answer_and_commit(request, cancel_on_disconnect(request, answer))

        return answer_caller

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request. Errors of the route and of its commit end here."""
        handlers = {HTTPException: answer_error, Exception: answer_error}
        await ExceptionMiddleware(super().handle, handlers)(scope, receive, send)


async def caller_of(state: ServerState, headers: Headers) -> Caller:
    """The caller of a key, or without a key that of LEGACY_API=open, charged for one image. Raises Unauthenticated."""
    key = key_in(headers) or _basic_password(headers)
    if key is None and state.settings.legacy_api == "open":
        settings, engine = state.settings, state.database.engine
        check_origin(headers, settings)
        tenant_id = await find_or_create_tenant(engine, settings.legacy_tenant, open_quotas(settings))
        caller = Caller(tenant_id, NO_KEY, frozenset({SCOPE, ENROLL}))
        await charge(engine, caller, "inference", 1)
        return caller
    return await caller_with(state, key, "inference")


def _basic_password(headers: Headers) -> str | None:
    kind, _, credentials = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2] or None
    except (binascii.Error, UnicodeDecodeError):
        return None
