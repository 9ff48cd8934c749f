"""API keys of the tenant. A key is shown once, when it is made; what is kept cannot be turned back into it."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.access.admission import Caller
from service.access.scopes import SCOPES
from service.access.tenant_keys import KeyRequest, KeySummary, create_key_as, list_keys, revoke_key
from service.api.shapes import List, RequestModel
from service.errors import NotFound
from service.http.callers import CurrentCaller
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession

router = keyed_router("/v1/keys", "keys")

_EXAMPLE: dict[str, Any] = {
    "id": "0c4qyk3d9m2w8",
    "name": "front door",
    "hint": "fik_1a2b3c_4d5e…",
    "scopes": ["recognize"],
    "galleries": ["staff"],
    "created_at": "2026-01-31T08:30:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
}


class NewKey(RequestModel):
    """A key to be made. It can do no more than the key that makes it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "front door", "scopes": ["recognize"], "galleries": ["staff"]}]}
    )

    name: str
    scopes: list[str] | None = Field(
        default=None, description=f"Of {', '.join(SCOPES)}; null: those of the key that makes it."
    )
    galleries: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="Names of the only galleries it may touch; null: as the key that makes it."
    )
    expires_at: AwareDatetime | None = None


class KeyShape(BaseModel):
    """Everything about a key but the key."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]}, from_attributes=True)

    id: str
    name: str
    hint: str = Field(description="The first characters, to tell keys apart.")
    scopes: list[str]
    galleries: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class MadeKey(KeyShape):
    """A key just made: the only answer that has the key itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE | {"key": "fik_1a2b3c_4d5e…"}]})

    key: str


@router.post("", status_code=201)
@needs("admin")
async def create(new: NewKey, session: RequestSession, caller: CurrentCaller) -> MadeKey:
    """Make a key."""
    wanted = KeyRequest(new.name, new.scopes, new.galleries, new.expires_at)
    summary, key = await create_key_as(session, caller, wanted)
    return MadeKey(**KeyShape.model_validate(summary).model_dump(), key=key)


@router.get("")
@needs("admin")
async def list_all(session: RequestSession, caller: CurrentCaller) -> List[KeyShape]:
    """The keys, oldest first; revoked ones too."""
    keys = [key for key in await list_keys(session) if _may_see(caller, key)]
    return List(items=[KeyShape.model_validate(key) for key in keys], next_cursor=None)


@router.delete("/{key}", status_code=204)
@needs("admin")
async def revoke(key: str, session: RequestSession, caller: CurrentCaller) -> Response:
    """End a key: the next request with it is refused."""
    if not _may_see(caller, await revoke_key(session, key)):
        raise NotFound(f"there is no key {key!r}")  # and the revocation is rolled back
    return Response(status_code=204)


def _may_see(caller: Caller, key: KeySummary) -> bool:
    """A key limited to galleries manages keys limited to some of the same."""
    return caller.galleries is None or (key.galleries is not None and caller.galleries.issuperset(key.galleries))
