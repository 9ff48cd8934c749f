"""Authentication of requests: the key in the header becomes a `Caller` or an `Operator` before the body is read.

This takes one round trip to the database. No connection is held afterwards.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, get_args

from fastapi import Depends, Path, Query, Request
from starlette.datastructures import Headers

from service.access.authentication import Caller, Operator, admit, admit_operator, charge
from service.access.key_format import read_key
from service.access.quotas import CostClass
from service.database.names import canonical_name
from service.errors import Forbidden, NotFound, Unauthenticated
from service.http.state import ServerState, server_state
from service.identity.spaces import MAXIMUM_GALLERIES

OPERATOR_SCOPE = "operator"
"""The scope of operator keys in errors and in the OpenAPI document. No key of a tenant has it."""


def key_in(headers: Headers) -> str | None:
    """The key in `X-API-Key` or `Authorization: Bearer`. The first one wins if both are sent."""
    key = headers.get("x-api-key")
    if key is None:
        kind, _, credentials = headers.get("authorization", "").partition(" ")
        key = credentials.strip() if kind.lower() == "bearer" else None
    return key


async def caller_with(state: ServerState, key: str | None, cost_class: CostClass = "request") -> Caller:
    """The caller of a key. Raises Unauthenticated without a valid key, TooManyRequests over its rate limit."""
    if key is None:
        raise Unauthenticated("send an API key as X-API-Key or as Authorization: Bearer")
    return await admit(state.database.engine, key, cost_class)


async def operator_with(state: ServerState, key: str | None) -> Operator:
    """The operator of a key. Raises Unauthenticated without a valid key, Forbidden for the key of a tenant."""
    if key is None:
        raise Unauthenticated("send an operator key as X-API-Key or as Authorization: Bearer")
    if read_key(key) is not None:
        detail = f"this operation needs an operator key; a tenant's key has no scope {OPERATOR_SCOPE!r}"
        raise Forbidden(detail, scope=OPERATOR_SCOPE)
    return await admit_operator(state.database.engine, key)


def check_scope(caller: Caller, scope: str) -> None:
    """Raises Forbidden if the caller's key lacks `scope`."""
    if scope not in caller.scopes:
        raise Forbidden(f"this operation needs a key with the scope {scope!r}", scope=scope)


def check_gallery(caller: Caller, name: str) -> None:
    """Raises NotFound if the caller's key is limited to other galleries, so that it learns nothing of them."""
    if caller.galleries is not None and canonical_name(name) not in caller.galleries:
        raise no_gallery(name)


def no_gallery(name: str) -> NotFound:
    """The error for a gallery that does not exist, or that the key may not use."""
    return NotFound(f"there is no gallery named {name!r}")


def charging_searches(request: Request) -> Callable[[int], Awaitable[None]]:
    """Charges units of a search against both rate limits of the caller. Raises TooManyRequests."""
    engine, caller = server_state(request).database.engine, current_caller(request)

    async def charge_units(units: int) -> None:
        for cost_class in get_args(CostClass):
            await charge(engine, caller, cost_class, units)

    return charge_units


def current_caller(request: Request) -> Caller:
    """The caller that the route authenticated."""
    caller: Caller = request.state.caller
    return caller


async def gallery_in_path(
    request: Request,
    gallery: Annotated[str, Path(description="Name of the gallery.", examples=["staff"])],
) -> str:
    """The gallery name of the path. Raises NotFound if the caller's key may not use it."""
    check_gallery(current_caller(request), gallery)
    return gallery


async def galleries_in_query(
    request: Request,
    gallery: Annotated[
        list[str],
        Query(
            min_length=1,
            max_length=MAXIMUM_GALLERIES,
            description="Name of a gallery; repeat the parameter for several.",
            examples=[["staff", "visitors"]],
        ),
    ],
) -> list[str]:
    """The galleries named in the query. Raises NotFound if the caller's key may not touch one of them."""
    for name in gallery:
        check_gallery(current_caller(request), name)
    return gallery


async def _current_caller(request: Request) -> Caller:
    return current_caller(request)


CurrentCaller = Annotated[Caller, Depends(_current_caller)]
GalleryName = Annotated[str, Depends(gallery_in_path)]
GalleryNames = Annotated[list[str], Depends(galleries_in_query)]
