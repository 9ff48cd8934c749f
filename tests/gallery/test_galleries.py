"""Galleries: making, finding, listing in pages, changing, deleting; another tenant sees none of it."""

import base64
import math

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.types import metadata
from service.errors import Conflict, InvalidCursor, InvalidRequest, NotFound
from service.gallery.galleries import (
    create_gallery,
    delete_gallery,
    find_gallery,
    gallery_counts,
    list_galleries,
    update_gallery,
)
from service.gallery.people import create_person, delete_person
from tests.support.galleries import crowd_of, gallery_of, space_of


async def test_a_gallery_is_found_with_its_space_and_threshold(session: AsyncSession) -> None:
    made = await create_gallery(session, "staff", space_of(512), threshold=0.45)
    assert await find_gallery(session, "staff") == made
    assert (made.space, made.threshold) == (space_of(512), 0.45)


async def test_a_gallery_without_a_threshold_has_the_default_of_its_space(session: AsyncSession) -> None:
    assert (await create_gallery(session, "staff", space_of(512))).threshold == 0.4


async def test_a_taken_name_is_refused_and_the_transaction_stays_usable(session: AsyncSession) -> None:
    await create_gallery(session, "staff", space_of())
    with pytest.raises(Conflict, match="staff"):
        await create_gallery(session, "staff", space_of())
    assert (await find_gallery(session, "staff")).name == "staff"


async def test_a_tenant_does_not_see_the_gallery_of_another_tenant(
    session: AsyncSession, other_session: AsyncSession
) -> None:
    gallery = await create_gallery(session, "staff", space_of())
    await session.commit()
    with pytest.raises(NotFound):
        await find_gallery(other_session, "staff")
    with pytest.raises(NotFound):
        await delete_gallery(other_session, gallery)
    assert (await list_galleries(other_session)).items == []
    assert (await create_gallery(other_session, "staff", space_of())).name == "staff"


@pytest.mark.parametrize("name", ["", "  ", "a/b", "..", ".", "x" * 201, "a\0b", "a\nb", "\ud800"])
async def test_a_name_that_cannot_be_used_is_refused(session: AsyncSession, name: str) -> None:
    with pytest.raises(InvalidRequest, match="gallery name"):
        await create_gallery(session, name, space_of())


@pytest.mark.parametrize("name", ["Käthe's 🙂 gallery", "日本", "a.b", "x" * 200])
async def test_gallery_names_of_any_script_are_stored_exactly(session: AsyncSession, name: str) -> None:
    await create_gallery(session, name, space_of())
    assert (await find_gallery(session, name)).name == name


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, math.inf])
async def test_a_threshold_that_is_not_a_similarity_is_refused(session: AsyncSession, threshold: float) -> None:
    with pytest.raises(InvalidRequest, match="threshold"):
        await create_gallery(session, "staff", space_of(), threshold)


async def test_pages_list_every_gallery_once_in_order(session: AsyncSession) -> None:
    names = [f"gallery {number}" for number in range(7)]
    for name in names:
        await create_gallery(session, name, space_of())
    found, cursor = [], None
    while True:
        page = await list_galleries(session, limit=3, cursor=cursor)
        found += [gallery.name for gallery in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == names


async def test_a_list_of_galleries_can_be_restricted_to_some_names(session: AsyncSession) -> None:
    for name in ("a", "b", "c"):
        await create_gallery(session, name, space_of())
    page = await list_galleries(session, names=frozenset({"c", "a", "never made"}))
    assert [gallery.name for gallery in page.items] == ["a", "c"]
    assert (await list_galleries(session, names=frozenset())).items == []


async def test_the_name_and_the_threshold_of_a_gallery_can_be_changed(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "staff", space_of())
    changed = await update_gallery(session, gallery, name="crew", threshold=0.5)
    assert (changed.id, changed.name, changed.threshold) == (gallery.id, "crew", 0.5)
    assert (await update_gallery(session, changed, threshold=None)).threshold == 0.4
    assert await update_gallery(session, changed) == await find_gallery(session, "crew")


async def test_a_gallery_cannot_take_the_name_of_another_gallery(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "staff", space_of())
    await create_gallery(session, "guests", space_of())
    with pytest.raises(Conflict, match="guests"):
        await update_gallery(session, gallery, name="guests")


async def test_deleting_a_gallery_deletes_all_of_its_rows(session: AsyncSession) -> None:
    gallery = await gallery_of(session, crowd_of(20))
    await delete_gallery(session, gallery)
    for table in metadata.sorted_tables:
        if "gallery_id" in table.c:
            assert await session.scalar(select(func.count()).select_from(table)) == 0, table.name
    with pytest.raises(NotFound):
        await delete_gallery(session, gallery)


async def test_counts_follow_what_is_added_and_removed(session: AsyncSession) -> None:
    gallery = await gallery_of(session, crowd_of(20, references=3))
    extra = await create_person(session, gallery, "no face yet")
    counts = await gallery_counts(session, gallery)
    assert (counts.people, counts.faces) == (21, 60)
    await delete_person(session, gallery, extra.id)
    found = await find_gallery(session, gallery.name)
    assert (found.people, found.faces) == (20, 60)


@pytest.mark.parametrize("name", ["", "never made", "a\0b", "\ud800", "x" * 100_000, "scratch/of/somebody"])
async def test_a_name_that_no_gallery_can_have_is_not_found(session: AsyncSession, name: str) -> None:
    with pytest.raises(NotFound):
        await find_gallery(session, name)


async def test_a_cursor_shows_no_number_that_tenants_share(session: AsyncSession) -> None:
    made = [await create_gallery(session, f"g{number}", space_of(3)) for number in range(3)]
    first = (await list_galleries(session, limit=1)).next_cursor
    second = (await list_galleries(session, limit=1, cursor=first)).next_cursor
    assert first is not None
    assert second is not None
    numbers = [int.from_bytes(base64.urlsafe_b64decode(cursor)[-8:]) for cursor in (first, second)]
    assert not {gallery.id for gallery in made} & set(numbers)
    assert numbers[0] ^ numbers[1] != made[0].id ^ made[1].id
    assert (await list_galleries(session, limit=1)).next_cursor == first


async def test_a_changed_cursor_is_refused(session: AsyncSession) -> None:
    for number in range(2):
        await create_gallery(session, f"g{number}", space_of(3))
    cursor = (await list_galleries(session, limit=1)).next_cursor
    assert cursor is not None
    content = base64.urlsafe_b64decode(cursor)
    for position in range(len(content)):
        changed = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        for damaged in (changed, content[:position]):
            with pytest.raises(InvalidCursor):
                await list_galleries(session, limit=1, cursor=base64.urlsafe_b64encode(damaged).decode())
