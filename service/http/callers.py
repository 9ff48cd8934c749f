"""Who is calling: the key in the header becomes a `Caller`, before anything of the body is read.

It takes one round trip to the database; no connection is kept afterwards.
"""

from typing import Annotated

from fastapi import Depends, Path, Query, Request
from starlette.datastructures import Headers

from service.access.authentication import Caller, admit
from service.access.quotas import CostClass
from service.errors import Forbidden, NotFound, Unauthenticated
from service.http.state import ServerState
from service.identity.spaces import MAXIMUM_GALLERIES


def key_in(headers: Headers) -> str | None:
    """The key of `X-API-Key` or of `Authorization: Bearer`; the first where both are sent."""
    key = headers.get("x-api-key")
    if key is None:
        kind, _, credentials = headers.get("authorization", "").partition(" ")
        key = credentials.strip() if kind.lower() == "bearer" else None
    return key


async def caller_with(service: ServerState, key: str | None, cost_class: CostClass = "request") -> Caller:
    """The caller behind a key; Unauthenticated where none is valid, TooManyRequests over its rate."""
    if key is None:
        raise Unauthenticated("send an API key as X-API-Key or as Authorization: Bearer")
    return await admit(service.database.engine, key, cost_class)


def check_scope(caller: Caller, scope: str) -> None:
    """Forbidden where the caller's key lacks `scope`."""
    if scope not in caller.scopes:
        raise Forbidden(f"this needs a key with the scope {scope!r}", scope=scope)


def check_gallery(caller: Caller, name: str) -> None:
    """NotFound where the caller's key is limited to other galleries: it learns nothing of the rest."""
    if "\0" in name or (caller.galleries is not None and name not in caller.galleries):
        raise no_gallery(name)


def no_gallery(name: str) -> NotFound:
    """What a caller is told of a gallery that is not there, or not there for this key."""
    return NotFound(f"there is no gallery named {name!r}")


def current_caller(request: Request) -> Caller:
    """The caller that the route found before anything else."""
    caller: Caller = request.state.caller
    return caller


async def gallery_in_path(
    request: Request,
    gallery: Annotated[str, Path(description="The gallery's name.", examples=["staff"])],
) -> str:
    """The gallery's name in the path, where the caller's key may touch it."""
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
