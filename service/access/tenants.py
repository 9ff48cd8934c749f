"""Tenants and their quotas, as the platform operator sees and changes them."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from service.access.keys import create_key
from service.access.names import check_tenant_name
from service.access.operator import act_as_operator, operator_transaction
from service.access.quotas import Quotas, Usage, read_usage
from service.access.tables import tenant
from service.database.names import canonical_name, may_be_stored
from service.database.session import tenant_of, tenant_session
from service.errors import Conflict, NotFound

UNLIMITED = Quotas()


@dataclass(frozen=True)
class TenantSummary:
    """A tenant as the operator sees it."""

    tenant_id: int
    name: str
    quotas: Quotas
    created_at: datetime


def new_tenant_id() -> int:
    """A random number, so that it does not reveal how many tenants there are."""
    return secrets.randbelow((1 << 31) - 1) + 1


async def create_tenant(connection: AsyncConnection, name: str, quotas: Quotas = UNLIMITED) -> int:
    """Make a tenant, as the operator. Raises Conflict if the name is taken."""
    name = check_tenant_name(name)
    tenant_id = new_tenant_id()
    await act_as_operator(connection)
    try:
        await connection.execute(insert(tenant).values(tenant_id=tenant_id, name=name, **quotas.as_columns()))
    except IntegrityError as error:
        raise Conflict(f"the tenant {name!r} already exists") from error
    return tenant_id


async def find_or_create_tenant(engine: AsyncEngine, name: str, quotas: Quotas) -> int:
    """The number of the tenant of that name. The first caller that needs the tenant makes it, with `quotas`.

    Several processes may call it at the same time: one of them makes the tenant, the others find it.
    """
    with contextlib.suppress(NotFound):
        return await _find_in_transaction(engine, name)
    try:
        async with operator_transaction(engine) as connection:
            return await create_tenant(connection, name, quotas)
    except Conflict:  # another process was first
        return await _find_in_transaction(engine, name)


async def make_first_key(connection: AsyncConnection, tenant_id: int) -> str:
    """Make the first key of a new tenant, in the operator's transaction that made the tenant."""
    async with _acting_for_tenant(connection, tenant_id) as session:
        _, key = await create_key(session, "first key")
    return key


async def read_usage_of(connection: AsyncConnection, tenant_id: int) -> Usage:
    """The usage of a tenant, in the operator's transaction.

    A second connection would do it too, and requests that hold one connection while they wait for another one can lock
    the whole pool.
    """
    async with _acting_for_tenant(connection, tenant_id) as session:
        return await read_usage(session)


async def find_tenant(connection: AsyncConnection, name: str) -> int:
    """The number of the tenant of that name, as the operator."""
    return (await read_tenant(connection, name)).tenant_id


async def read_tenant(connection: AsyncConnection, name: str) -> TenantSummary:
    """The tenant of that name, as the operator."""
    tenants = await _select(connection, tenant.c.name == canonical_name(name)) if may_be_stored(name) else []
    if not tenants:
        raise NotFound(f"there is no tenant named {name!r}")
    return tenants[0]


async def list_tenants(connection: AsyncConnection, limit: int | None = None, after: int = 0) -> list[TenantSummary]:
    """Tenants in the order of their numbers, as the operator, starting after a given number."""
    return await _select(connection, tenant.c.tenant_id > after, limit)


async def change_quotas(connection: AsyncConnection, name: str, quotas: Quotas) -> TenantSummary:
    """Change a tenant's quotas, as the operator. They hold from the next request on."""
    tenant_id = await find_tenant(connection, name)
    await connection.execute(update(tenant).where(tenant.c.tenant_id == tenant_id).values(quotas.as_columns()))
    return await read_tenant(connection, name)


async def delete_tenant(connection: AsyncConnection, name: str) -> None:
    """Delete a tenant with all its data, as the operator."""
    tenant_id = await find_tenant(connection, name)
    await connection.execute(delete(tenant).where(tenant.c.tenant_id == tenant_id))


async def own_quotas(session: AsyncSession) -> Quotas:
    """The quotas of the session's tenant."""
    row = (await session.execute(select(*_QUOTAS).where(tenant.c.tenant_id == tenant_of(session)))).one()
    return Quotas(**row._mapping)


_QUOTAS = [tenant.c[name] for name in UNLIMITED.as_columns()]


@contextlib.asynccontextmanager
async def _acting_for_tenant(connection: AsyncConnection, tenant_id: int) -> AsyncIterator[AsyncSession]:
    """A session of the tenant inside the operator's open transaction, which is the operator's again afterwards."""
    await connection.execute(text("RESET ROLE"))
    async with tenant_session(connection, tenant_id) as session, session.begin():
        yield session
    await act_as_operator(connection)


async def _find_in_transaction(engine: AsyncEngine, name: str) -> int:
    async with operator_transaction(engine) as connection:
        return await find_tenant(connection, name)


async def _select(
    connection: AsyncConnection, condition: ColumnElement[bool], limit: int | None = None
) -> list[TenantSummary]:
    await act_as_operator(connection)
    rows = await connection.execute(select(tenant).where(condition).order_by(tenant.c.tenant_id).limit(limit))
    return [
        TenantSummary(
            tenant_id=row.tenant_id,
            name=row.name,
            quotas=Quotas(**{column.name: row._mapping[column] for column in _QUOTAS}),
            created_at=row.created_at,
        )
        for row in rows
    ]
