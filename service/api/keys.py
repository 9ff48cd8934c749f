"""API keys of a tenant. A key is shown only once, at its creation; the service stores a hash."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool

from service.access.authentication import Caller
from service.access.keys import (
    GRACE,
    KeyRequest,
    KeySummary,
    create_key_as,
    find_key,
    list_keys,
    revoke_key,
    rotate_key,
)
from service.access.limits import LARGEST_RATE, LONGEST_GRACE
from service.access.names import SCOPES
from service.access.quotas import RateLimits
from service.api.shapes import WHOLE, Cursor, GalleryNaming, Limit, List, RequestModel, ShortName
from service.errors import Conflict, NotFound
from service.gallery.galleries import check_galleries_exist
from service.http.callers import CurrentCaller
from service.http.openapi import leads_to, problems
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession

router = keyed_router("/v1/keys", "keys")

SECOND = timedelta(seconds=1)
Rate = Annotated[int, Field(ge=1, le=LARGEST_RATE), WHOLE] | None
Scope = Annotated[str, Field(json_schema_extra={"enum": list(SCOPES)})]
_LINKS = leads_to("keys_rotate", "keys_revoke", key="response.body#/id")
_EXAMPLE: dict[str, Any] = {
    "id": "0c4qyk3d9m2w8",
    "name": "front door",
    "hint": "fik_1a2b3c_4d5e…",
    "scopes": ["recognize"],
    "galleries": ["staff"],
    "requests_per_minute": None,
    "inferences_per_minute": 60,
    "created_at": "2026-01-31T08:30:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
    "created_by": "0c4qyk3d9m2w1",
}


class NewKey(RequestModel):
    """A new API key. It may do no more than the key that creates it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "front door", "scopes": ["recognize"], "galleries": ["staff"]}]}
    )

    name: ShortName
    scopes: list[Scope] | None = Field(
        default=None, description="Allowed scopes; null: the scopes of the creating key."
    )
    galleries: Annotated[list[GalleryNaming], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="Allowed galleries; null: those of the creating key."
    )
    missing_ok: StrictBool = Field(default=False, description="True accepts names of galleries that do not exist yet.")
    expires_at: AwareDatetime | None = Field(
        default=None, description="Null, or a later time than that of the creating key: the time of the creating key."
    )
    requests_per_minute: Rate = Field(
        default=None, description="A rate limit of this key, besides the tenant's; null: none."
    )
    inferences_per_minute: Rate = Field(default=None, description="The same for images.")


class Rotation(RequestModel):
    """How long the old key stays valid beside its successor."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"grace_seconds": 3600}]})

    grace_seconds: Annotated[int, Field(ge=0, le=int(LONGEST_GRACE.total_seconds())), WHOLE] = int(
        GRACE.total_seconds()
    )


class KeyShape(BaseModel):
    """An API key without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]}, from_attributes=True)

    id: str
    name: str
    hint: str = Field(description="The first characters of the key.")
    scopes: list[str]
    galleries: list[str] | None
    requests_per_minute: int | None
    inferences_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    created_by: str | None = Field(description="Id of the key that made this key; null: a command made it.")


class MadeKey(KeyShape):
    """A new key. Only this response contains the key itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE | {"key": "fik_1a2b3c_4d5e…"}]})

    key: str


@router.post("", status_code=201, responses=problems(Conflict) | _LINKS)
@needs("admin")
async def create(new: NewKey, session: RequestSession, caller: CurrentCaller) -> MadeKey:
    """Create a key. It is refused if it names a gallery that does not exist, unless `missing_ok` is true.

    It expires with the creating key at the latest. Its requests count against the rate limits of both keys.
    """
    rates = RateLimits(new.requests_per_minute, new.inferences_per_minute)
    request = KeyRequest(new.name, new.scopes, new.galleries, new.expires_at, rates)
    made = await create_key_as(session, caller, request)
    if new.galleries is not None and not new.missing_ok:  # after the check that the caller may know of them
        await check_galleries_exist(session, new.galleries, "create it first, or send missing_ok: true")
    return _made(*made)


@router.get("")
@needs("admin")
async def list_all(
    session: RequestSession, caller: CurrentCaller, limit: Limit = 100, cursor: Cursor = None
) -> List[KeyShape]:
    """List the keys, oldest first, including revoked keys."""
    page = await list_keys(session, limit, cursor)
    keys = [KeyShape.model_validate(key) for key in page.items if _may_see(caller, key)]
    return List(items=keys, next_cursor=page.next_cursor)


@router.post("/{key}/rotate", status_code=201, responses=problems(Conflict) | _LINKS)
@needs("admin")
async def rotate(key: str, session: RequestSession, caller: CurrentCaller, rotation: Rotation) -> MadeKey:
    """Create the successor of a key with the same permissions. Both are valid until the grace period ends."""
    if not _may_see(caller, await find_key(session, key)):
        raise _no_key(key)
    return _made(*await rotate_key(session, key, timedelta(seconds=rotation.grace_seconds), caller))


@router.delete("/{key}", status_code=204)
@needs("admin")
async def revoke(key: str, session: RequestSession, caller: CurrentCaller) -> Response:
    """Revoke a key and the keys that it made. The next request with one of them is refused."""
    if not _may_see(caller, await revoke_key(session, key)):
        raise _no_key(key)  # the exception rolls the revocation back
    return Response(status_code=204)


def _made(summary: KeySummary, key: str) -> MadeKey:
    return MadeKey(**KeyShape.model_validate(summary).model_dump(), key=key)


def _no_key(key: str) -> NotFound:
    return NotFound(f"there is no key {key!r}")


def _may_see(caller: Caller, key: KeySummary) -> bool:
    """Whether the caller may manage a key: a key limited to galleries manages only keys limited to some of them."""
    return caller.galleries is None or (key.galleries is not None and caller.galleries.issuperset(key.galleries))
