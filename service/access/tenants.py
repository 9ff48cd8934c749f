"""Tenants and their API keys in the database."""

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from service.access.keys import digest_of, hint_of, new_key, read_key
from service.access.scopes import SCOPES, check_scopes
from service.access.tables import api_key, tenant
from service.database.base import OWNER_ROLE
from service.database.identifiers import from_text, new_identifier, to_text
from service.database.tenancy import tenant_of
from service.errors import Conflict, InvalidRequest, NotFound

USE_IS_RECORDED_EVERY = timedelta(minutes=1)
MAXIMUM_NAME_LENGTH = 200


@dataclass(frozen=True)
class Caller:
    """Who is asking: a tenant, through one of its keys."""

    tenant_id: int
    key_id: int
    scopes: frozenset[str]
    galleries: frozenset[str] | None = field(default=None)
    """Names of the only galleries the key may touch; None: all."""


@dataclass(frozen=True)
class KeySummary:
    """A key as it is listed: everything but the key."""

    id: str
    name: str
    hint: str
    scopes: list[str]
    galleries: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class TenantSummary:
    """A tenant as the operator sees it."""

    tenant_id: int
    name: str
    created_at: datetime


def new_tenant_id() -> int:
    """A random number: how many tenants there are is nobody's business."""
    return secrets.randbelow((1 << 31) - 1) + 1


async def create_tenant(connection: AsyncConnection, name: str) -> int:
    """Add a tenant, as the operator. Conflict where the name is taken."""
    check_name(name)
    tenant_id = new_tenant_id()
    await act_as_operator(connection)
    try:
        await connection.execute(insert(tenant).values(tenant_id=tenant_id, name=name))
    except IntegrityError as error:
        raise Conflict(f"there is a tenant named {name!r} already") from error
    return tenant_id


async def find_tenant(connection: AsyncConnection, name: str) -> int:
    """The number of the tenant of that name, as the operator."""
    await act_as_operator(connection)
    found = await connection.scalar(select(tenant.c.tenant_id).where(tenant.c.name == name))
    if found is None:
        raise NotFound(f"there is no tenant named {name!r}")
    return int(found)


async def list_tenants(connection: AsyncConnection) -> list[TenantSummary]:
    """Every tenant by name, as the operator."""
    await act_as_operator(connection)
    rows = await connection.execute(select(tenant).order_by(tenant.c.name))
    return [TenantSummary(**row._mapping) for row in rows]


async def delete_tenant(connection: AsyncConnection, name: str) -> None:
    """Remove a tenant and everything it has, as the operator."""
    tenant_id = await find_tenant(connection, name)
    await connection.execute(delete(tenant).where(tenant.c.tenant_id == tenant_id))


async def act_as_operator(connection: AsyncConnection) -> None:
    """From here on the transaction speaks as the role that owns the tables: it sees tenants, not their data."""
    await connection.execute(text(f"SET LOCAL ROLE {OWNER_ROLE}"))


async def create_key(
    session: AsyncSession,
    name: str,
    scopes: list[str] | None = None,
    galleries: list[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[KeySummary, str]:
    """Make a key for the session's tenant; the second value is the key itself, to be shown once."""
    check_name(name)
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise InvalidRequest("expires_at lies in the past")
    key = new_key(tenant_of(session))
    values = {
        "tenant_id": tenant_of(session),
        "id": new_identifier(),
        "name": name,
        "hint": hint_of(key),
        "digest": digest_of(key),
        "scopes": check_scopes(scopes if scopes is not None else list(SCOPES)),
        "galleries": galleries,
        "expires_at": expires_at,
    }
    row = (await session.execute(insert(api_key).values(values).returning(*_SUMMARY))).one()
    return _summary(row._mapping), key


async def list_keys(session: AsyncSession) -> list[KeySummary]:
    """The keys of the session's tenant, oldest first."""
    rows = await session.execute(
        select(*_SUMMARY).where(api_key.c.tenant_id == tenant_of(session)).order_by(api_key.c.id)
    )
    return [_summary(row._mapping) for row in rows]


async def revoke_key(session: AsyncSession, key_id: str) -> KeySummary:
    """End a key; the next request with it is refused."""
    statement = (
        update(api_key)
        .where(api_key.c.tenant_id == tenant_of(session), api_key.c.id == from_text(key_id))
        .values(revoked_at=func.coalesce(api_key.c.revoked_at, func.now()))
        .returning(*_SUMMARY)
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise NotFound(f"there is no key {key_id!r}")
    return _summary(row._mapping)


async def authenticate(session: AsyncSession, key: str) -> Caller | None:
    """The caller behind a live key, None for any other. `session` is bound to the key's own claim of tenant."""
    presented = read_key(key)
    if presented is None:
        return None
    statement = select(api_key).where(
        api_key.c.tenant_id == presented.tenant_id,
        api_key.c.digest == presented.digest,
        api_key.c.revoked_at.is_(None),
        (api_key.c.expires_at.is_(None)) | (api_key.c.expires_at > func.now()),
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None or not hmac.compare_digest(row.digest, presented.digest):
        return None
    await _record_use(session, row.tenant_id, row.id, row.last_used_at)
    galleries = frozenset(row.galleries) if row.galleries is not None else None
    return Caller(row.tenant_id, row.id, frozenset(row.scopes), galleries)


def check_name(name: str) -> None:
    """InvalidRequest for a name of a tenant or key that is empty, too long or not printable."""
    if not name.strip() or len(name) > MAXIMUM_NAME_LENGTH or not name.isprintable():
        raise InvalidRequest(f"a name has 1 to {MAXIMUM_NAME_LENGTH} printable characters")


async def _record_use(session: AsyncSession, tenant_id: int, key_id: int, last_used_at: datetime | None) -> None:
    now = datetime.now(UTC)
    if last_used_at is None or now - last_used_at > USE_IS_RECORDED_EVERY:
        await session.execute(
            update(api_key).where(api_key.c.tenant_id == tenant_id, api_key.c.id == key_id).values(last_used_at=now)
        )


_SUMMARY = [column for column in api_key.c if column.name not in {"tenant_id", "digest"}]


def _summary(row: object) -> KeySummary:
    values = dict(row)  # type: ignore[call-overload]
    return KeySummary(**{**values, "id": to_text(values["id"])})
