"""Bulk loads: references belong to the right people, a batch is written whole or not at all, and the export returns the
same numbers.
"""

import asyncio
import math

import numpy as np
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import Database
from service.database.session import tenant_session
from service.errors import InvalidEmbedding, InvalidRequest
from service.gallery.bulk_writing import BulkResult, ReferenceRow, add_references
from service.gallery.exact_values import Reference, stream_references
from service.gallery.faces import list_faces
from service.gallery.galleries import Gallery, GalleryCounts, create_gallery, gallery_counts
from service.gallery.people import create_person, find_person_named, list_people
from tests.gallery.locks import until_blocked
from tests.support.galleries import crowd_of, space_of


@pytest.fixture
async def gallery(session: AsyncSession) -> Gallery:
    return await create_gallery(session, "staff", space_of(8))


def row(name: str, external_id: str | None = None, seed: int = 0, **more: object) -> ReferenceRow:
    values = np.random.default_rng(seed).standard_normal(8)
    return ReferenceRow(name, external_id, values, **more)  # type: ignore[arg-type]


async def everything(session: AsyncSession, gallery: Gallery) -> list[Reference]:
    return [reference async for reference in stream_references(session, gallery)]


async def test_rows_of_one_name_are_one_person(session: AsyncSession, gallery: Gallery) -> None:
    result = await add_references(session, gallery, [row("Ada"), row("Grace", seed=1), row("Ada", seed=2)])
    assert result == BulkResult(people=2, faces=3)
    ada = await find_person_named(session, gallery, "Ada")
    assert ada is not None
    assert ada.faces == 2


async def test_people_of_one_name_with_different_external_ids_are_different_people(
    session: AsyncSession, gallery: Gallery
) -> None:
    rows = [row("Ada"), row("Ada", "1"), row("Ada", "2"), row("Lovelace", "1")]
    assert (await add_references(session, gallery, rows)).people == 3
    counts = {(person.name, person.external_id): person.faces for person in (await list_people(session, gallery)).items}
    assert counts == {("Ada", None): 1, ("Ada", "1"): 2, ("Ada", "2"): 1}


async def test_existing_people_get_more_faces_and_keep_their_metadata(session: AsyncSession, gallery: Gallery) -> None:
    await create_person(session, gallery, "Ada", metadata={"kept": True})
    assert await add_references(session, gallery, [row("Ada", metadata={"kept": False})]) == BulkResult(0, 1)
    assert await add_references(session, gallery, [row("Ada", seed=1)]) == BulkResult(0, 1)
    ada = await find_person_named(session, gallery, "Ada")
    assert ada is not None
    assert (ada.faces, ada.metadata) == (2, {"kept": True})


async def test_metadata_and_source_of_a_row_are_stored(session: AsyncSession, gallery: Gallery) -> None:
    await add_references(session, gallery, [row("Ada", metadata={"floor": 3}, source=0), row("Ada", source="b.jpg")])
    ada = await find_person_named(session, gallery, "Ada")
    assert ada is not None
    assert ada.metadata == {"floor": 3}
    assert [face.source for face in (await list_faces(session, gallery, ada)).items] == [0, "b.jpg"]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (ReferenceRow("Eve", None, [math.nan] * 8), InvalidEmbedding),
        (ReferenceRow("", None, [1.0] * 8), InvalidRequest),
        (ReferenceRow("Eve", "\0", [1.0] * 8), InvalidRequest),
        (ReferenceRow("Eve", None, [1.0] * 8, metadata={"a": math.nan}), InvalidRequest),
    ],
)
async def test_an_invalid_row_refuses_its_whole_batch(
    session: AsyncSession, gallery: Gallery, bad: ReferenceRow, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await add_references(session, gallery, [row("Ada"), bad])
    assert (await list_people(session, gallery)).items == []
    assert await add_references(session, gallery, []) == BulkResult(0, 0)


async def test_exported_numbers_equal_the_enrolled_numbers_exactly(session: AsyncSession, gallery: Gallery) -> None:
    wide = np.random.default_rng(3).standard_normal(8)
    narrow = wide.astype(np.float32).astype(np.float64) * 2.5
    tiny = np.array([5e-324, 1e-300, 1.0, -0.0, 1e30, 3.0, 2**-149, 0.1])
    await add_references(
        session, gallery, [ReferenceRow(name, None, v) for name, v in zip("abc", (wide, narrow, tiny), strict=True)]
    )
    found = await everything(session, gallery)
    for reference, values in zip(found, (wide, narrow, tiny), strict=True):
        assert reference.values.tobytes() == values.tobytes()


async def test_references_come_in_order_of_enrollment(session: AsyncSession, gallery: Gallery) -> None:
    names = ["b", "a", "b", "c", "a"]
    await add_references(session, gallery, [row(name, source=place) for place, name in enumerate(names)])
    await add_references(session, gallery, [row("b", source=5)])
    assert [reference.source for reference in await everything(session, gallery)] == [0, 1, 2, 3, 4, 5]


async def test_the_export_of_another_tenant_is_empty(
    session: AsyncSession, other_session: AsyncSession, gallery: Gallery
) -> None:
    await add_references(session, gallery, [row("Ada")])
    await session.commit()
    assert await everything(other_session, gallery) == []


async def test_two_concurrent_loads_make_each_person_once(database: Database, tenant_id: int) -> None:
    async with (
        tenant_session(database.engine, tenant_id) as first,
        tenant_session(database.engine, tenant_id) as second,
    ):
        gallery = await create_gallery(first, "staff", space_of(8))
        await first.commit()
        await add_references(first, gallery, [row("Ada"), row("Grace")])
        waiting = asyncio.create_task(add_references(second, gallery, [row("Grace"), row("Ada")]))
        await until_blocked(first, waiting)
        await first.commit()
        assert await waiting == BulkResult(people=0, faces=2)
        await second.commit()
        assert (await gallery_counts(first, gallery)) == (await gallery_counts(second, gallery))
        assert [person.faces for person in (await list_people(first, gallery)).items] == [2, 2]


async def test_two_batches_that_make_the_same_people_do_not_deadlock(database: Database, tenant_id: int) -> None:
    """People are made in the order of their names, so that the second batch waits before it holds a name itself."""
    async with (
        tenant_session(database.engine, tenant_id) as first,
        tenant_session(database.engine, tenant_id) as second,
    ):
        gallery = await create_gallery(first, "staff", space_of(8))
        await first.commit()
        await create_person(first, gallery, "Ada")
        waiting = asyncio.create_task(add_references(second, gallery, [row("Grace"), row("Ada")]))
        await until_blocked(first, waiting)
        await create_person(first, gallery, "Grace")
        await first.commit()
        assert await waiting == BulkResult(people=0, faces=2)


async def test_two_batches_that_make_the_same_external_ids_do_not_deadlock(database: Database, tenant_id: int) -> None:
    async with (
        tenant_session(database.engine, tenant_id) as first,
        tenant_session(database.engine, tenant_id) as second,
    ):
        gallery = await create_gallery(first, "staff", space_of(8))
        await first.commit()
        await create_person(first, gallery, "Grace", "1")
        waiting = asyncio.create_task(add_references(second, gallery, [row("Ada", "2"), row("Grace", "1")]))
        await until_blocked(first, waiting)
        await create_person(first, gallery, "Ada", "2")
        await first.commit()
        assert await waiting == BulkResult(people=0, faces=2)


async def test_people_who_get_faces_in_bulk_are_locked(database: Database, tenant_id: int) -> None:
    """Without the lock two writers could change the templates of one person at the same time."""
    lockable = text("SELECT name FROM person ORDER BY name FOR NO KEY UPDATE SKIP LOCKED")
    async with (
        tenant_session(database.engine, tenant_id) as first,
        tenant_session(database.engine, tenant_id) as second,
    ):
        gallery = await create_gallery(first, "staff", space_of(8))
        for name in ("Ada", "Grace"):
            await create_person(first, gallery, name)
        await first.commit()
        await add_references(first, gallery, [row("Ada")])
        assert (await second.scalars(lockable)).all() == ["Grace"]
        await second.rollback()


async def test_the_number_of_statements_does_not_grow_with_the_batch(session: AsyncSession, gallery: Gallery) -> None:
    """One statement per row would make a load of a million references take hours."""
    crowd = crowd_of(500, 2, 8).rows()
    connection = (await session.connection()).sync_connection
    assert connection is not None
    statements: list[str] = []

    @event.listens_for(connection, "before_cursor_execute")
    def count(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        statements.append(statement)

    counts = []
    for batch in (crowd[:4], crowd[4:]):
        statements.clear()
        await add_references(session, gallery, batch)
        counts.append(len(statements))
    assert counts[0] == counts[1] > 0
    assert await gallery_counts(session, gallery) == GalleryCounts(people=500, faces=1000)
