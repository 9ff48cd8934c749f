"""Errors of the legacy recognizer: `{"error": "..."}`, with 400 for every mistake in the input."""

from collections.abc import Mapping

import msgspec
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from service.errors import ServiceError, Unauthenticated
from service.http.problems import RETRY_AFTER_SECONDS, known_error
from service.http.request_log import log_failure

KEPT_STATUSES = frozenset({401, 403, 405, 408, 429})
"""Statuses that the legacy dialect keeps: no input of a legacy caller can cause them. Every other mistake is a 400."""


async def answer_error(_: Request, error: Exception) -> Response:
    """The answer for any exception."""
    if isinstance(error, ClientDisconnect):
        raise error
    known = known_error(error)
    if known is None:
        log_failure(error)
        known = ServiceError("see the log")
    return Response(
        msgspec.json.encode({"error": f"{known.title}: {known.detail}" if known.detail else known.title}),
        _status(known),
        headers=_headers(known, error),
        media_type="application/json",
    )


def _status(error: ServiceError) -> int:
    return 400 if 400 <= error.status < 500 and error.status not in KEPT_STATUSES else error.status


def _headers(known: ServiceError, error: Exception) -> Mapping[str, str]:
    if isinstance(known, Unauthenticated):
        return {"WWW-Authenticate": 'Basic realm="face identity"'}
    seconds = getattr(known, "retry_after_seconds", RETRY_AFTER_SECONDS if known.status == 503 else None)
    if seconds is not None:
        return {"Retry-After": str(seconds)}
    return (error.headers or {}) if isinstance(error, HTTPException) else {}
