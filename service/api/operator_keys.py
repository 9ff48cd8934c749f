"""Keys of the platform operator. `face-identity operator keys create` creates the first one."""

from datetime import datetime, timedelta
from typing import Any

from fastapi import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.access.keys import (
    OperatorKeySummary,
    create_operator_key,
    list_operator_keys,
    revoke_operator_key,
    rotate_operator_key,
)
from service.api.keys import Rotation
from service.api.shapes import Cursor, Limit, List, RequestModel, ShortName, page_of
from service.errors import Conflict
from service.http.openapi import leads_to, problems
from service.http.routes import operator_router
from service.http.sessions import OperatorTransaction

router = operator_router("/v1/operator/keys", "operator-keys")

_LINKS = leads_to("operator_keys_rotate", "operator_keys_revoke", key="response.body#/id")
_EXAMPLE: dict[str, Any] = {
    "id": "0c4qyk3d9m2w8",
    "name": "billing",
    "hint": "fio_4d5e…",
    "created_at": "2026-01-31T08:30:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
}


class NewOperatorKey(RequestModel):
    """A new operator key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "billing"}]})

    name: ShortName
    expires_at: AwareDatetime | None = None


class OperatorKeyShape(BaseModel):
    """An operator key without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]}, from_attributes=True)

    id: str
    name: str
    hint: str = Field(description="The first characters of the key.")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class MadeOperatorKey(OperatorKeyShape):
    """A new operator key. Only this response contains the key itself."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE | {"key": "fio_4d5e…"}]})

    key: str


@router.post("", status_code=201, responses=_LINKS)
async def create(new: NewOperatorKey, connection: OperatorTransaction) -> MadeOperatorKey:
    """Create an operator key."""
    return _made(*await create_operator_key(connection, new.name, new.expires_at))


@router.get("")
async def list_all(
    connection: OperatorTransaction, limit: Limit = 100, cursor: Cursor = None
) -> List[OperatorKeyShape]:
    """List the operator keys, oldest first, including revoked keys."""
    return page_of(await list_operator_keys(connection, limit, cursor), OperatorKeyShape.model_validate)


@router.post("/{key}/rotate", status_code=201, responses=problems(Conflict) | _LINKS)
async def rotate(key: str, rotation: Rotation, connection: OperatorTransaction) -> MadeOperatorKey:
    """Create the successor of an operator key. Both are valid until the grace period ends."""
    return _made(*await rotate_operator_key(connection, key, timedelta(seconds=rotation.grace_seconds)))


@router.delete("/{key}", status_code=204)
async def revoke(key: str, connection: OperatorTransaction) -> Response:
    """Revoke an operator key. The next request with it is refused."""
    await revoke_operator_key(connection, key)
    return Response(status_code=204)


def _made(summary: OperatorKeySummary, key: str) -> MadeOperatorKey:
    return MadeOperatorKey(**OperatorKeyShape.model_validate(summary).model_dump(), key=key)
