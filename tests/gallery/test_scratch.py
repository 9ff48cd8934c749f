"""Scratch galleries: found by the digest of their dataset, never listed, deleted after they expire."""

import asyncio
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import Database
from service.database.session import tenant_session
from service.embedding import EmbeddingSpace, external_space
from service.errors import InvalidRequest, NotFound
from service.gallery import tables
from service.gallery.bulk_writing import ReferenceRow, add_references
from service.gallery.galleries import create_gallery, find_gallery, list_galleries
from service.gallery.scratch import delete_expired_galleries, find_scratch_gallery, make_scratch_gallery
from tests.gallery.locks import until_blocked

DAY = timedelta(days=1)


@pytest.fixture
def space() -> EmbeddingSpace:
    found = external_space("external:test:3")
    assert found is not None
    return found


async def set_age(session: AsyncSession, remaining: timedelta) -> None:
    await session.execute(update(tables.gallery).values(expires_at=func.now() + remaining))


async def test_a_scratch_gallery_is_found_by_the_digest_of_its_dataset(
    session: AsyncSession, space: EmbeddingSpace
) -> None:
    made = await make_scratch_gallery(session, "digest", space, DAY)
    assert made is not None
    await add_references(session, made, [ReferenceRow("ada", None, np.ones(3))])
    found = await find_scratch_gallery(session, "digest", space, DAY)
    assert found is not None
    assert (found.id, found.faces) == (made.id, 1)
    assert await find_scratch_gallery(session, "other digest", space, DAY) is None


async def test_a_scratch_gallery_belongs_to_one_embedding_space(session: AsyncSession, space: EmbeddingSpace) -> None:
    await make_scratch_gallery(session, "digest", space, DAY)
    other = external_space("external:other:3")
    assert other is not None
    assert await find_scratch_gallery(session, "digest", other, DAY) is None


async def test_a_scratch_gallery_is_neither_listed_nor_found_by_name(
    session: AsyncSession, space: EmbeddingSpace
) -> None:
    made = await make_scratch_gallery(session, "digest", space, DAY)
    assert made is not None
    await create_gallery(session, "staff", space)
    assert [gallery.name for gallery in (await list_galleries(session)).items] == ["staff"]
    with pytest.raises(NotFound):
        await find_gallery(session, made.name)
    with pytest.raises(InvalidRequest):
        await create_gallery(session, made.name, space)


async def test_an_expired_scratch_gallery_is_not_found_and_can_be_made_again(
    session: AsyncSession, space: EmbeddingSpace
) -> None:
    first = await make_scratch_gallery(session, "digest", space, DAY)
    await set_age(session, timedelta(seconds=-1))
    assert await find_scratch_gallery(session, "digest", space, DAY) is None
    second = await make_scratch_gallery(session, "digest", space, DAY)
    assert first is not None
    assert second is not None
    assert second.id != first.id


async def test_finding_a_scratch_gallery_late_in_its_life_extends_its_life(
    session: AsyncSession, space: EmbeddingSpace
) -> None:
    await make_scratch_gallery(session, "digest", space, DAY)
    await set_age(session, DAY / 4)
    assert await find_scratch_gallery(session, "digest", space, DAY) is not None
    remaining = await session.scalar(select(tables.gallery.c.expires_at - func.now()))
    assert remaining == DAY


async def test_a_find_soon_after_the_making_does_not_extend_the_life(
    session: AsyncSession, space: EmbeddingSpace
) -> None:
    await make_scratch_gallery(session, "digest", space, DAY)
    await set_age(session, DAY * 3 / 4)
    await find_scratch_gallery(session, "digest", space, DAY)
    assert await session.scalar(select(tables.gallery.c.expires_at - func.now())) == DAY * 3 / 4


async def test_expired_scratch_galleries_are_deleted_with_their_faces_and_nothing_else_is(
    session: AsyncSession, space: EmbeddingSpace
) -> None:
    old = await make_scratch_gallery(session, "old", space, DAY)
    assert old is not None
    await add_references(session, old, [ReferenceRow("ada", None, np.ones(3))])
    await set_age(session, timedelta(seconds=-1))
    await make_scratch_gallery(session, "new", space, DAY)
    staff = await create_gallery(session, "staff", space)
    await add_references(session, staff, [ReferenceRow("bob", None, np.ones(3))])
    assert await delete_expired_galleries(session) == 0  # making the new gallery removed it
    faces = await session.scalars(select(tables.face.c.gallery_id))
    assert faces.all() == [staff.id]
    assert await find_scratch_gallery(session, "new", space, DAY) is not None


async def test_the_second_of_two_concurrent_makers_waits_and_finds_the_scratch_gallery(
    database: Database, tenant_id: int, space: EmbeddingSpace
) -> None:
    async with (
        tenant_session(database.engine, tenant_id) as first,
        tenant_session(database.engine, tenant_id) as second,
    ):
        made = await make_scratch_gallery(first, "digest", space, DAY)
        assert made is not None
        waiting = asyncio.create_task(make_scratch_gallery(second, "digest", space, DAY))
        await until_blocked(first, waiting)
        await first.commit()
        assert await waiting is None
        found = await find_scratch_gallery(second, "digest", space, DAY)
        assert found is not None
        assert found.id == made.id
