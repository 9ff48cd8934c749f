"""Errors as answers: RFC 9457 problem+json, without internals of the service.

A validation error names the field and the mistake, never the value.
"""

import errno
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from service.database.failures import DATABASE_FAILURES, as_service_error
from service.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OutOfDisk,
    OutOfFiles,
    PayloadTooLarge,
    RetryLater,
    ServiceError,
    Unauthenticated,
    UnsupportedMediaType,
)
from service.telemetry import logger

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:face-identity:"
MAXIMUM_FIELD_LENGTH = 100
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
RETRY_AFTER_SECONDS = 1
_OF_STATUS: dict[int, tuple[type[ServiceError], str]] = {
    404: (NotFound, "no resource at this path; the page /docs lists all of them"),
    405: (MethodNotAllowed, "the Allow header lists the supported methods"),
    413: (PayloadTooLarge, ""),
    415: (UnsupportedMediaType, ""),
}
_OF_ERRNO: dict[int, type[RetryLater]] = {
    errno.EMFILE: OutOfFiles,
    errno.ENFILE: OutOfFiles,
    errno.ENOSPC: OutOfDisk,
    errno.EDQUOT: OutOfDisk,
}


def install_problems(app: FastAPI) -> None:
    """Answer every error of `app` as a problem."""
    for kind in (ServiceError, RequestValidationError, HTTPException, OSError, *DATABASE_FAILURES):
        app.add_exception_handler(kind, _answer)


def problem(error: ServiceError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for one error."""
    content = {
        "type": TYPE_PREFIX + error.slug,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
        **error.members,
    }
    extra = dict(headers or {})
    if isinstance(error, Unauthenticated):
        extra["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RetryLater):
        extra["Retry-After"] = str(error.retry_after_seconds)
    elif error.status == 503:
        extra["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return Response(msgspec.json.encode(content), error.status, extra, MEDIA_TYPE)


def request_id_of(request: Request) -> str:
    """The id of the request in the log."""
    return str(getattr(request.state, "request_id", ""))


def known_error(error: Exception) -> ServiceError | None:
    """The error of the catalogue that an exception stands for. Faults of the service are logged.

    None if the exception is unexpected.
    """
    if isinstance(error, ServiceError):
        if error.status >= 500:
            logger("http").warning("request failed", problem=error.slug, detail=error.detail)
        return error
    if isinstance(error, OSError) and error.errno in _OF_ERRNO:
        logger("http").warning("request failed", problem=_OF_ERRNO[error.errno].slug)
        return _OF_ERRNO[error.errno]("try again in a moment", retry_after_seconds=RETRY_AFTER_SECONDS)
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        kind, detail = _OF_STATUS.get(error.status_code, (InvalidRequest, "the request could not be parsed"))
        return kind(detail)
    known = as_service_error(error)
    if known is not None:
        state = getattr(getattr(error, "orig", error), "sqlstate", None)
        logger("http").warning("database unavailable", kind=type(error).__name__, sqlstate=state)
    return known


async def _answer(request: Request, error: Exception) -> Response:
    known = known_error(error)
    if known is None:
        raise error  # the request middleware answers unexpected errors
    if isinstance(known, DatabaseUnavailable):
        known = _with_reason(request, known)
    headers = {"Allow": ", ".join(_allowed(request))} if isinstance(known, MethodNotAllowed) else None
    return problem(known, request_id_of(request), headers)


def _with_reason(request: Request, error: DatabaseUnavailable) -> DatabaseUnavailable:
    """The error with the reason why the embedded database cannot be started again, if that is the case."""
    server_state = getattr(request.app.state, "server_state", None)
    trouble = server_state.database.trouble if server_state is not None else None
    return error if trouble is None else DatabaseUnavailable(trouble)


def _allowed(request: Request) -> list[str]:
    """The methods of this path. The framework knows those of one route, and a path may have several."""
    scopes = {method: dict(request.scope) | {"method": method} for method in METHODS}
    scopes["HEAD"] = scopes["GET"]  # the request middleware answers HEAD by GET
    routes = request.app.routes
    return [method for method in METHODS if any(route.matches(scopes[method])[0] is Match.FULL for route in routes)]


def _invalid(error: RequestValidationError) -> InvalidRequest:
    errors = [{"field": _field(mistake["loc"]), "reason": str(mistake["msg"])} for mistake in error.errors()]
    return InvalidRequest("; ".join(f"{each['field']}: {each['reason']}" for each in errors[:3]), errors=errors)


def unknown_parameters(names: Sequence[str], known: Collection[str]) -> InvalidRequest:
    """The error for query parameters that the operation does not have."""
    fields = [_field(("query", name)) for name in names]
    taken = ", ".join(sorted(known)) or "no query parameters"
    errors = [{"field": field, "reason": "unknown query parameter"} for field in fields]
    detail = "; ".join(f"{field}: unknown query parameter" for field in fields[:3])
    return InvalidRequest(f"{detail}; this operation takes {taken}", errors=errors)


def _field(location: tuple[Any, ...]) -> str:
    """The place in the request: `body.metadata`, `query.limit`. Names invented by the client are shortened and
    printable.
    """
    text = ".".join(str(part) for part in location)[:MAXIMUM_FIELD_LENGTH]
    return "".join(character if character.isprintable() else "?" for character in text)
