"""Quotas of a tenant: galleries, faces in each gallery, bytes. They hold at the commit and for concurrent writers."""

import asyncio
import io
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.operator import operator_transaction
from service.access.quotas import Quotas, Usage, read_usage
from service.access.tenants import change_quotas, create_tenant
from service.database.connection import Database
from service.database.quotas import check_quota_for_one_face
from service.database.session import tenant_session
from service.embedding import external_space
from service.errors import QuotaExceeded
from service.gallery.bulk_writing import ReferenceRow, add_references
from service.gallery.faces import NewFace, add_faces, delete_face
from service.gallery.galleries import Gallery, create_gallery, delete_gallery, find_gallery
from service.gallery.people import Person, create_person, delete_person, update_person
from service.gallery.scratch import make_scratch_gallery
from service.jobs.inputs import store_input
from service.jobs.jobs import create_job
from tests.support.tenants import embedding_of

SPACE = external_space("external:quota:512")
NewTenant = Callable[[Quotas], Awaitable[int]]


@pytest.fixture
def new_tenant(database: Database) -> NewTenant:
    """Makes tenants with quotas."""

    async def make(quotas: Quotas) -> int:
        async with operator_transaction(database.engine) as connection:
            return await create_tenant(connection, f"quota-{uuid.uuid4().hex[:12]}", quotas)

    return make


async def gallery_with_person(session: AsyncSession, name: str = "staff") -> tuple[Gallery, Person]:
    """A new gallery with a person, committed."""
    assert SPACE is not None
    gallery = await create_gallery(session, name, SPACE)
    person = await create_person(session, gallery, "Ada")
    await session.commit()
    return gallery, person


async def add_one(session: AsyncSession, gallery: Gallery, person: Person, name: str) -> str:
    """Enroll one face and commit."""
    faces = await add_faces(session, gallery, person, [NewFace(embedding_of(name))])
    await session.commit()
    return faces[0].id


async def test_a_tenant_cannot_make_more_galleries_than_its_quota(database: Database, new_tenant: NewTenant) -> None:
    async with tenant_session(database.engine, await new_tenant(Quotas(maximum_galleries=2))) as session:
        await gallery_with_person(session, "one")
        gallery, _ = await gallery_with_person(session, "two")
        with pytest.raises(QuotaExceeded, match="maximum_galleries") as refusal:
            await gallery_with_person(session, "three")
        assert refusal.value.status == 429
        assert refusal.value.retry_after_seconds > 0
        await session.rollback()
        await delete_gallery(session, gallery)
        await session.commit()
        await gallery_with_person(session, "three")


async def test_a_gallery_cannot_hold_more_faces_than_its_quota(database: Database, new_tenant: NewTenant) -> None:
    async with tenant_session(database.engine, await new_tenant(Quotas(maximum_faces_per_gallery=3))) as session:
        gallery, person = await gallery_with_person(session)
        faces = [await add_one(session, gallery, person, name) for name in ("a", "b", "c")]
        with pytest.raises(QuotaExceeded, match="maximum_faces_per_gallery"):
            await add_one(session, gallery, person, "d")
        await session.rollback()
        assert (await find_gallery(session, "staff")).faces == 3
        await delete_face(session, gallery, person, faces[0])
        await session.commit()
        await add_one(session, gallery, person, "d")
        other, other_person = await gallery_with_person(session, "guests")
        await add_one(session, other, other_person, "a")


async def test_the_quota_of_faces_limits_people_too(database: Database, new_tenant: NewTenant) -> None:
    async with tenant_session(database.engine, await new_tenant(Quotas(maximum_faces_per_gallery=2))) as session:
        gallery, _ = await gallery_with_person(session)
        await create_person(session, gallery, "Bob")
        await session.commit()
        await create_person(session, gallery, "Cem")
        with pytest.raises(QuotaExceeded, match="maximum_faces_per_gallery"):
            await session.commit()


async def test_a_load_that_exceeds_a_quota_stores_nothing(database: Database, new_tenant: NewTenant) -> None:
    async with tenant_session(database.engine, await new_tenant(Quotas(maximum_faces_per_gallery=10))) as session:
        gallery, _ = await gallery_with_person(session)
        for batch in range(3):
            rows = [ReferenceRow(f"p{batch}", None, embedding_of(f"{batch}{row}")) for row in range(4)]
            await add_references(session, gallery, rows)
        with pytest.raises(QuotaExceeded, match="maximum_faces_per_gallery"):
            await session.commit()
        await session.rollback()
        kept = await find_gallery(session, "staff")
        assert (kept.people, kept.faces) == (1, 0)


async def test_concurrent_writers_do_not_exceed_a_quota(database: Database, new_tenant: NewTenant) -> None:
    number = await new_tenant(Quotas(maximum_faces_per_gallery=10))
    async with tenant_session(database.engine, number) as session:
        gallery, _ = await gallery_with_person(session)
        people = [await create_person(session, gallery, f"p{place}") for place in range(9)]
        await session.commit()

    async def enroll(place: int) -> bool:
        async with tenant_session(database.engine, number) as own:
            try:
                await add_one(own, gallery, people[place % 9], str(place))
            except QuotaExceeded:
                return False
        return True

    assert sum(await asyncio.gather(*[enroll(place) for place in range(40)])) == 10
    async with tenant_session(database.engine, number) as session:
        assert (await find_gallery(session, "staff")).faces == 10


async def test_the_quota_of_bytes_is_enforced(database: Database, new_tenant: NewTenant) -> None:
    async with tenant_session(database.engine, await new_tenant(Quotas(maximum_stored_bytes=20_000))) as session:
        gallery, person = await gallery_with_person(session)
        for place in range(20_000 // (512 * 4 + 512 * 17 // 8 + 512 // 8)):
            await add_one(session, gallery, person, str(place))
        with pytest.raises(QuotaExceeded, match="maximum_stored_bytes"):
            await add_one(session, gallery, person, "one more")
        await session.rollback()
        assert 0 < 20_000 - (await read_usage(session)).stored_bytes < 3_300


@pytest.mark.parametrize("what", ["metadata of a new person", "changed metadata", "source of a face", "import file"])
async def test_bytes_of_every_kind_count(database: Database, new_tenant: NewTenant, what: str) -> None:
    async with tenant_session(database.engine, await new_tenant(Quotas(maximum_stored_bytes=10_000))) as session:
        gallery, person = await gallery_with_person(session)
        large = "x" * 10_000
        if what == "metadata of a new person":
            await create_person(session, gallery, "Bob", metadata={"note": large})
        elif what == "changed metadata":
            await update_person(session, gallery, person, metadata={"note": large})
        elif what == "source of a face":
            await add_faces(session, gallery, person, [NewFace(embedding_of("a"), source=large)])
        else:
            await store_input(session, await create_job(session, "nothing", {}), io.BytesIO(large.encode()))
        with pytest.raises(QuotaExceeded, match="maximum_stored_bytes"):
            await session.commit()


async def test_a_full_gallery_is_refused_before_the_model_works(database: Database, new_tenant: NewTenant) -> None:
    async with tenant_session(database.engine, await new_tenant(Quotas(maximum_faces_per_gallery=1))) as session:
        gallery, person = await gallery_with_person(session)
        await check_quota_for_one_face(session, gallery.id)
        await add_one(session, gallery, person, "a")
        with pytest.raises(QuotaExceeded):
            await check_quota_for_one_face(session, gallery.id)


async def test_a_lowered_quota_deletes_nothing_and_admits_nothing_new(
    database: Database, new_tenant: NewTenant
) -> None:
    number = await new_tenant(Quotas())
    async with operator_transaction(database.engine) as connection:
        name = (
            await connection.execute(text("SELECT name FROM tenant WHERE tenant_id = :number"), {"number": number})
        ).scalar_one()
    async with tenant_session(database.engine, number) as session:
        gallery, person = await gallery_with_person(session)
        faces = [await add_one(session, gallery, person, str(place)) for place in range(3)]
        async with operator_transaction(database.engine) as connection:
            await change_quotas(connection, name, Quotas(maximum_faces_per_gallery=1))
        assert (await find_gallery(session, "staff")).faces == 3
        await session.rollback()
        with pytest.raises(QuotaExceeded):
            await add_one(session, gallery, person, "more")
        await session.rollback()
        await delete_face(session, gallery, person, faces[0])
        await session.commit()


async def test_usage_equals_the_size_of_the_stored_rows(session: AsyncSession) -> None:
    gallery, person = await gallery_with_person(session)
    await add_one(session, gallery, person, "a")
    await add_references(session, gallery, [ReferenceRow("Bob", "7", embedding_of("b"), source="b.jpg")])
    await update_person(session, gallery, person, metadata={"floor": 3})
    extra = await create_person(session, gallery, "Cem", "ext-9", {"note": "x" * 100})
    await add_faces(session, gallery, extra, [NewFace(np.arange(1.0, 513.0) / 3, source={"page": 1}, detection={})])
    usage = await read_usage(session)
    assert usage == Usage(galleries=1, people=3, faces=3, stored_bytes=await measured(session))
    await delete_person(session, gallery, extra.id)
    usage = await read_usage(session)
    assert usage == Usage(galleries=1, people=2, faces=2, stored_bytes=await measured(session))
    await delete_person(session, gallery, person.id)
    await delete_gallery(session, gallery)
    assert await read_usage(session) == Usage(galleries=0, people=0, faces=0, stored_bytes=0)


async def measured(session: AsyncSession) -> int:
    """The stored bytes, measured on the rows themselves."""
    statement = text("""
        SELECT (SELECT sum(octet_length(name) + coalesce(octet_length(external_id), 0) + octet_length(metadata::text))
                FROM person)
             + (SELECT sum(octet_length(original) + coalesce(octet_length(source::text), 0)
                           + coalesce(octet_length(detection::text), 0) + 512 * 2 + 512 / 8) FROM face_detail)
             + (SELECT sum(octet_length(code::text) / 8) FROM person_template)
    """)
    return int((await session.execute(statement)).scalar_one())


async def test_usage_does_not_count_the_galleries_of_uploaded_datasets(session: AsyncSession) -> None:
    assert SPACE is not None
    assert await make_scratch_gallery(session, "0" * 64, SPACE, timedelta(hours=1)) is not None
    await session.commit()
    assert (await read_usage(session)).galleries == 0
