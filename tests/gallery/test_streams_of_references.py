"""A stream of references reads in short transactions: it holds no connection, and no person in it is half."""

from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.session import release_connection, tenant_session
from service.errors import NotFound
from service.gallery import exact_values, tables
from service.gallery.bulk_writing import ReferenceRow, add_references
from service.gallery.exact_values import Reference, stream_references
from service.gallery.galleries import Gallery, create_gallery, delete_gallery
from service.gallery.people import delete_person, find_person_named
from tests.conftest import MakePool
from tests.support.galleries import space_of

PEOPLE = 4
ROWS = 40
"""Each person has every fourth reference, so every person's references are spread over the whole stream."""


@pytest.fixture(autouse=True)
def few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_values, "ROWS_AT_ONCE", 3)


@pytest.fixture
async def gallery(session: AsyncSession) -> Gallery:
    made = await create_gallery(session, "staff", space_of(8))
    await add_references(session, made, [row(number) for number in range(ROWS)])
    await session.commit()
    return made


def row(number: int, name: str = "") -> ReferenceRow:
    values = np.random.default_rng(number).standard_normal(8)
    return ReferenceRow(name or f"person {number % PEOPLE}", None, values, number)


def numbers(references: list[Reference]) -> list[object]:
    return [reference.source for reference in references]


@pytest.mark.parametrize("by_name", [False, True])
async def test_a_stream_has_every_reference_in_order(session: AsyncSession, gallery: Gallery, by_name: bool) -> None:
    found = [reference async for reference in stream_references(session, gallery, by_name=by_name)]
    expected = list(range(ROWS))
    assert numbers(found) == (sorted(expected, key=lambda number: number % PEOPLE) if by_name else expected)
    for reference in found:
        assert isinstance(reference.source, int)
        assert reference.name == f"person {reference.source % PEOPLE}"
        assert np.array_equal(reference.values, row(reference.source).values)


async def test_a_stream_holds_no_connection_while_its_reader_works(
    make_pool: MakePool, tenant_id: int, gallery: Gallery
) -> None:
    engine = make_pool(1)
    async with tenant_session(engine, tenant_id) as session, tenant_session(engine, tenant_id) as other:
        async for _ in stream_references(session, gallery):
            assert not session.in_transaction()
            assert await other.scalar(text("SELECT 1")) == 1  # on the only connection of the pool
            await release_connection(other)


@pytest.mark.parametrize("erased", range(PEOPLE))
async def test_a_person_who_is_erased_during_a_stream_is_whole_or_missing(
    session: AsyncSession, make_pool: MakePool, tenant_id: int, gallery: Gallery, erased: int
) -> None:
    """After two references, the people of the first three were read. The fourth was not."""
    found = []
    person = await find_person_named(session, gallery, f"person {erased}")
    assert person is not None
    async with tenant_session(make_pool(1), tenant_id) as reading:
        async for reference in stream_references(reading, gallery):
            found.append(reference)
            if len(found) == 2:
                await delete_person(session, gallery, person.id)
                await session.commit()
    missing = {number for number in range(ROWS) if erased == 3 and number % PEOPLE == erased}
    assert numbers(found) == [number for number in range(ROWS) if number not in missing]


async def test_a_reference_that_is_enrolled_during_a_stream_is_not_in_it(
    session: AsyncSession, make_pool: MakePool, tenant_id: int, gallery: Gallery
) -> None:
    found = []
    async with tenant_session(make_pool(1), tenant_id) as reading:
        async for reference in stream_references(reading, gallery):
            found.append(reference)
            if len(found) == 1:
                await add_references(session, gallery, [row(ROWS + 3), row(ROWS, "new")])
                await session.commit()
    assert numbers(found) == list(range(ROWS))


async def test_people_of_one_name_stay_together_if_one_of_them_is_renamed(
    session: AsyncSession, make_pool: MakePool, tenant_id: int
) -> None:
    gallery = await create_gallery(session, "namesakes", space_of(8))
    rows = [replace(row(number, "Ada"), external_id=str(number)) for number in range(9)]
    await add_references(session, gallery, rows)
    await session.commit()
    found = []
    async with tenant_session(make_pool(1), tenant_id) as reading:
        async for reference in stream_references(reading, gallery, by_name=True):
            found.append(reference)
            if len(found) == 1:
                people = tables.person.c
                rename = update(tables.person).where(people.gallery_id == gallery.id, people.external_id == "5")
                await session.execute(rename.values(name="Grace"))
                await session.commit()
    assert [reference.name for reference in found] == ["Ada"] * 9


async def test_a_stream_of_a_gallery_that_is_deleted_meanwhile_does_not_end_like_a_whole_one(
    session: AsyncSession, make_pool: MakePool, tenant_id: int, gallery: Gallery
) -> None:
    async with tenant_session(make_pool(1), tenant_id) as reading:
        references = stream_references(reading, gallery)
        await anext(references)
        await delete_gallery(session, gallery)
        await session.commit()
        with pytest.raises(NotFound):
            _ = [reference async for reference in references]


async def test_parked_references_leave_memory_for_a_file_without_a_name(
    session: AsyncSession, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_values, "_PARKED_IN_MEMORY_BYTES", 100)
    found = [reference async for reference in stream_references(session, gallery)]
    assert numbers(found) == list(range(ROWS))
