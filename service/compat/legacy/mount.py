"""Mounts the dialect at the root of the application. Only the dialect's own paths reach it.

A mounted sub-application at the root would take every path, so the dialect is one route that matches its own paths.
"""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from service.compat.legacy.callers import ENROLL, SCOPE
from service.compat.legacy.routes import router
from service.http.api_page import answer_with_api_page

DOCUMENT = "/legacy/openapi.json"
DOCUMENTATION = "/legacy/docs"
DESCRIPTION = f"""The API of the legacy recognizer. Send a key with the scope `{SCOPE}` as `X-API-Key`, as
`Authorization: Bearer` or as the password of HTTP Basic. A dataset needs the scope `{ENROLL}` as well. A server with
LEGACY_API=open also answers without a key."""


class LegacyDialect(BaseRoute):
    """The dialect as one route of the application around it. It shares its state and middleware."""

    def __init__(self) -> None:
        documentation = [
            Route(DOCUMENT, _document, include_in_schema=False),
            Route(DOCUMENTATION, _documentation, include_in_schema=False),
        ]
        self.routes: list[BaseRoute] = [*router.routes, *documentation]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """A full match, or a partial one (another method), for a path of the dialect."""
        return self._find(scope)[0]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the matching route answer."""
        await self._find(scope)[1].handle(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[tuple[Match, Scope], BaseRoute]:
        matches = [(route.matches(scope), route) for route in self.routes]
        return max(matches, key=lambda pair: pair[0][0].value)


def mount_legacy(app: FastAPI) -> None:
    """Serve the legacy API from `app`."""
    app.router.routes.append(LegacyDialect())


async def _document(_: Request) -> Response:
    return JSONResponse(_describe())


async def _documentation(_: Request) -> Response:
    return answer_with_api_page(_describe())


def _describe() -> dict[str, Any]:
    return get_openapi(title="Legacy recognizer", version="1.1", description=DESCRIPTION, routes=router.routes)
