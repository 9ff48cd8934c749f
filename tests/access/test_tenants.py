"""Tenants, keys and who is behind a key, in the database."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.keys import new_key
from service.access.tables import api_key
from service.access.tenants import authenticate, create_key, list_keys, revoke_key
from service.errors import InvalidRequest, NotFound


async def test_a_fresh_key_names_its_tenant_and_scopes(session: AsyncSession, tenant_id: int) -> None:
    _, key = await create_key(session, "door", ["recognize", "read"])
    caller = await authenticate(session, key)
    assert caller is not None
    assert (caller.tenant_id, caller.scopes) == (tenant_id, frozenset({"recognize", "read"}))


async def test_the_key_itself_is_not_stored(session: AsyncSession) -> None:
    _, key = await create_key(session, "door")
    row = (await session.execute(select(api_key))).one()
    assert key not in str(row)
    assert key.encode() not in bytes(row.digest)


async def test_a_revoked_key_is_nobody(session: AsyncSession) -> None:
    summary, key = await create_key(session, "door")
    await revoke_key(session, summary.id)
    assert await authenticate(session, key) is None


async def test_a_key_that_was_never_made_is_nobody(session: AsyncSession, tenant_id: int) -> None:
    assert await authenticate(session, new_key(tenant_id)) is None


async def test_a_key_does_not_open_another_tenant(session: AsyncSession, other_session: AsyncSession) -> None:
    summary, key = await create_key(session, "door")
    await session.commit()
    assert await authenticate(other_session, key) is None
    assert await list_keys(other_session) == []
    with pytest.raises(NotFound):
        await revoke_key(other_session, summary.id)


async def test_a_key_cannot_expire_before_it_is_made(session: AsyncSession) -> None:
    with pytest.raises(InvalidRequest, match="past"):
        await create_key(session, "door", expires_at=datetime.now(UTC) - timedelta(seconds=1))
