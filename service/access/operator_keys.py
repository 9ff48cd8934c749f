"""Keys of the platform operator. They give access to tenants, quotas and usage, and never to a tenant's data."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.access.key_format import digest_of, hint_of, new_operator_key
from service.access.names import check_name
from service.access.operator import act_as_operator
from service.access.tables import operator_key
from service.access.tenant_keys import GRACE, LONGEST_GRACE, check_expiry
from service.database.identifiers import from_text, new_identifier, to_text
from service.errors import Conflict, InvalidRequest, NotFound


@dataclass(frozen=True)
class OperatorKeySummary:
    """An operator key in a list: everything except the key itself."""

    id: str
    name: str
    hint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


async def create_operator_key(
    connection: AsyncConnection, name: str, expires_at: datetime | None = None
) -> tuple[OperatorKeySummary, str]:
    """Make an operator key. The second value is the key itself, to be shown once."""
    check_name(name)
    check_expiry(expires_at)
    key = new_operator_key()
    values = {"id": new_identifier(), "name": name, "hint": hint_of(key), "digest": digest_of(key)}
    await act_as_operator(connection)
    statement = insert(operator_key).values(**values, expires_at=expires_at).returning(*_SUMMARY)
    return _summary((await connection.execute(statement)).one()), key


async def list_operator_keys(connection: AsyncConnection) -> list[OperatorKeySummary]:
    """All operator keys, oldest first."""
    await act_as_operator(connection)
    return [_summary(row) for row in await connection.execute(select(*_SUMMARY).order_by(operator_key.c.id))]


async def rotate_operator_key(
    connection: AsyncConnection, key_id: str, grace: timedelta = GRACE
) -> tuple[OperatorKeySummary, str]:
    """Make a successor of a key, and let the old key expire after `grace`. Until then both are live."""
    if not timedelta(0) <= grace <= LONGEST_GRACE:
        raise InvalidRequest(f"the grace period is at most {LONGEST_GRACE.days} days")
    old, now = await _find(connection, key_id), datetime.now(UTC)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise Conflict(f"the operator key {key_id!r} has expired or was revoked; make a new one")
    lifetime = None if old.expires_at is None else old.expires_at - old.created_at
    made = await create_operator_key(connection, old.name, None if lifetime is None else now + lifetime)
    await _change(connection, key_id, expires_at=func.least(operator_key.c.expires_at, now + grace))
    return made


async def revoke_operator_key(connection: AsyncConnection, key_id: str) -> OperatorKeySummary:
    """Revoke an operator key. The next request with it is refused."""
    return await _change(connection, key_id, revoked_at=func.coalesce(operator_key.c.revoked_at, func.now()))


async def _find(connection: AsyncConnection, key_id: str) -> OperatorKeySummary:
    await act_as_operator(connection)
    statement = select(*_SUMMARY).where(operator_key.c.id == from_text(key_id))
    return _known((await connection.execute(statement)).one_or_none(), key_id)


async def _change(connection: AsyncConnection, key_id: str, **values: object) -> OperatorKeySummary:
    await act_as_operator(connection)
    statement = update(operator_key).where(operator_key.c.id == from_text(key_id)).values(values)
    return _known((await connection.execute(statement.returning(*_SUMMARY))).one_or_none(), key_id)


_SUMMARY = [column for column in operator_key.c if column.name != "digest"]


def _known(row: Row[tuple[object, ...]] | None, key_id: str) -> OperatorKeySummary:
    if row is None:
        raise NotFound(f"there is no operator key {key_id!r}")
    return _summary(row)


def _summary(row: Row[tuple[object, ...]]) -> OperatorKeySummary:
    values = dict(row._mapping)
    return OperatorKeySummary(**{**values, "id": to_text(values["id"])})
