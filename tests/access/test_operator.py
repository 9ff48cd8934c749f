"""The platform operator: tenants, quotas and keys of its own, and no access to tenants' data."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.authentication import admit, admit_operator
from service.access.key_format import new_operator_key
from service.access.keys import (
    create_key,
    create_operator_key,
    list_operator_keys,
    revoke_operator_key,
    rotate_operator_key,
)
from service.access.operator import operator_transaction
from service.access.quotas import Quotas
from service.access.tenants import (
    change_quotas,
    create_tenant,
    delete_tenant,
    find_or_create_tenant,
    find_tenant,
    list_tenants,
    own_quotas,
    read_tenant,
)
from service.database.connection import Database
from service.database.session import tenant_session
from service.database.types import metadata
from service.errors import Conflict, InvalidRequest, NotFound, Unauthenticated


async def test_the_operator_creates_reads_and_removes_tenants(database: Database) -> None:
    async with operator_transaction(database.engine) as connection:
        number = await create_tenant(connection, "acme-of-operator", Quotas(requests_per_minute=60))
    async with operator_transaction(database.engine) as connection:
        found = await read_tenant(connection, "acme-of-operator")
        assert (found.tenant_id, found.quotas) == (number, Quotas(requests_per_minute=60))
        assert found in await list_tenants(connection)
        assert found not in await list_tenants(connection, after=number)
        assert len(await list_tenants(connection, limit=1)) == 1
        await delete_tenant(connection, "acme-of-operator")
        with pytest.raises(NotFound):
            await find_tenant(connection, "acme-of-operator")


async def test_the_first_of_several_callers_makes_a_tenant_and_the_others_find_it(database: Database) -> None:
    made = await asyncio.gather(
        *(find_or_create_tenant(database.engine, "made-on-demand", Quotas(maximum_galleries=7)) for _ in range(8))
    )
    assert len(set(made)) == 1
    async with operator_transaction(database.engine) as connection:
        found = await read_tenant(connection, "made-on-demand")
    assert (found.tenant_id, found.quotas) == (made[0], Quotas(maximum_galleries=7))


async def test_a_tenant_name_is_unique(database: Database) -> None:
    async with operator_transaction(database.engine) as connection:
        await create_tenant(connection, "taken-name")
    with pytest.raises(Conflict, match="taken-name"):
        async with operator_transaction(database.engine) as connection:
            await create_tenant(connection, "taken-name")


@pytest.mark.parametrize("name", ["", " ", "a/b", "..", "a\nb", "x" * 201])
async def test_a_tenant_name_must_fit_into_a_url(database: Database, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        async with operator_transaction(database.engine) as connection:
            await create_tenant(connection, name)


async def test_a_tenant_reads_its_quotas_and_cannot_change_them(database: Database) -> None:
    async with operator_transaction(database.engine) as connection:
        number = await create_tenant(connection, "quota-reader")
        await change_quotas(connection, "quota-reader", Quotas(maximum_galleries=3))
    async with tenant_session(database.engine, number) as session:
        assert await own_quotas(session) == Quotas(maximum_galleries=3)
        with pytest.raises(ProgrammingError, match="permission denied"):
            await session.execute(text("UPDATE tenant SET maximum_galleries = 4"))


@pytest.mark.parametrize("wrong", [{"maximum_galleries": 0}, {"requests_per_minute": 1_000_001}])
def test_a_quota_outside_its_range_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        Quotas(**wrong)


async def test_an_operator_key_is_admitted_until_it_is_revoked(database: Database) -> None:
    async with operator_transaction(database.engine) as connection:
        summary, key = await create_operator_key(connection, "console")
    assert (await admit_operator(database.engine, key)).key_id
    async with operator_transaction(database.engine) as connection:
        listed = {found.id: found for found in (await list_operator_keys(connection, 1000)).items}
        assert listed[summary.id].last_used_at is not None
        await revoke_operator_key(connection, summary.id)
    with pytest.raises(Unauthenticated):
        await admit_operator(database.engine, key)


async def test_both_operator_keys_are_live_during_a_rotation(database: Database) -> None:
    async with operator_transaction(database.engine) as connection:
        old, old_key = await create_operator_key(connection, "console", datetime.now(UTC) + timedelta(days=9))
        new, new_key = await rotate_operator_key(connection, old.id, timedelta(minutes=5))
    assert new.expires_at is not None
    for key in (old_key, new_key):
        await admit_operator(database.engine, key)
    async with operator_transaction(database.engine) as connection:
        await rotate_operator_key(connection, new.id, timedelta(0))
        with pytest.raises(Conflict, match="expired or was revoked"):
            await rotate_operator_key(connection, new.id)
    with pytest.raises(Unauthenticated):
        await admit_operator(database.engine, new_key)


async def test_an_operator_key_that_was_never_made_is_refused(database: Database) -> None:
    with pytest.raises(Unauthenticated):
        await admit_operator(database.engine, new_operator_key())


async def test_a_key_of_a_tenant_is_not_an_operator_key(database: Database, session: AsyncSession) -> None:
    _, key = await create_key(session, "door")
    await session.commit()
    with pytest.raises(Unauthenticated):
        await admit_operator(database.engine, key)
    async with operator_transaction(database.engine) as connection:
        _, operators = await create_operator_key(connection, "console")
    with pytest.raises(Unauthenticated):
        await admit(database.engine, operators)


async def test_an_operator_cannot_read_the_data_of_tenants(database: Database, session: AsyncSession) -> None:
    await create_key(session, "door")
    await session.commit()
    for table in metadata.sorted_tables:
        if "tenant_id" in table.c and table.name != "tenant":
            with pytest.raises(ProgrammingError, match="permission denied"):
                async with operator_transaction(database.engine) as connection:
                    await connection.execute(text(f"SELECT 1 FROM {table.name}"))


async def test_a_session_of_a_tenant_sees_no_operator_key(database: Database, session: AsyncSession) -> None:
    async with operator_transaction(database.engine) as connection:
        await create_operator_key(connection, "console")
    assert (await session.execute(text("SELECT count(*) FROM operator_key"))).scalar_one() == 0


async def test_a_grace_period_never_prolongs_an_operator_key(database: Database) -> None:
    async with operator_transaction(database.engine) as connection:
        old, _ = await create_operator_key(connection, "console", datetime.now(UTC) + timedelta(hours=1))
        await rotate_operator_key(connection, old.id, timedelta(days=1))
        expires_at = {key.id: key.expires_at for key in (await list_operator_keys(connection, 1000)).items}
    assert expires_at[old.id] == old.expires_at


async def test_canonically_equal_names_are_one_tenant(database: Database) -> None:
    async with operator_transaction(database.engine) as connection:
        number = await create_tenant(connection, "Caf\u00e9-of-operator")
        assert await find_tenant(connection, " Cafe\u0301-of-operator") == number
    with pytest.raises(Conflict):
        async with operator_transaction(database.engine) as connection:
            await create_tenant(connection, "Cafe\u0301-of-operator ")
