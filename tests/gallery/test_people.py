"""People of a gallery: names, external ids, metadata, pages; other tenants and galleries see none of them."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import Database
from service.database.session import tenant_session
from service.errors import Conflict, InvalidRequest, NotFound
from service.gallery.faces import NewFace, add_faces
from service.gallery.galleries import Gallery, create_gallery, delete_gallery, find_gallery
from service.gallery.people import (
    create_person,
    delete_person,
    find_person,
    find_person_named,
    list_people,
    lock_people,
    update_person,
)
from tests.gallery.locks import until_blocked
from tests.support.galleries import space_of


@pytest.fixture
async def gallery(session: AsyncSession) -> Gallery:
    return await create_gallery(session, "staff", space_of())


async def test_a_person_is_found_with_the_values_it_was_made_with(session: AsyncSession, gallery: Gallery) -> None:
    made = await create_person(session, gallery, "Ada", "employee 1", {"floor": 3, "tags": ["vip"]})
    assert await find_person(session, gallery, made.id) == made
    assert (made.name, made.external_id, made.metadata, made.faces) == (
        "Ada",
        "employee 1",
        {"floor": 3, "tags": ["vip"]},
        0,
    )


@pytest.mark.parametrize("name", ["../../etc", "a/b\\c", "🧑🏽‍🚀 Zoë", "李雷", "%00' OR 1=1 --", "x" * 500])
async def test_unusual_names_are_stored_exactly(session: AsyncSession, gallery: Gallery, name: str) -> None:
    made = await create_person(session, gallery, name)
    assert (await find_person(session, gallery, made.id)).name == name


@pytest.mark.parametrize("name", ["", " \t", "x" * 501, "x" * 10_000, "a\0", "a\x1b[31m", "\udc00"])
async def test_a_name_that_cannot_be_used_is_refused(session: AsyncSession, gallery: Gallery, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        await create_person(session, gallery, name)


async def test_two_people_without_external_id_cannot_have_the_same_name(
    session: AsyncSession, gallery: Gallery
) -> None:
    await create_person(session, gallery, "Ada")
    with pytest.raises(Conflict, match="Ada"):
        await create_person(session, gallery, "Ada")
    assert len((await list_people(session, gallery)).items) == 1


async def test_external_ids_tell_two_people_of_one_name_apart(session: AsyncSession, gallery: Gallery) -> None:
    alone = await create_person(session, gallery, "Ada")
    first = await create_person(session, gallery, "Ada", "1")
    second = await create_person(session, gallery, "Ada", "2")
    with pytest.raises(Conflict, match="external_id '2'"):
        await create_person(session, gallery, "Grace", "2")
    assert await find_person_named(session, gallery, "Ada") == alone
    assert await find_person_named(session, gallery, "Ada", "2") == second
    assert await find_person_named(session, gallery, "Ada", "3") is None
    assert {person.id for person in (await list_people(session, gallery, name="Ada")).items} == {
        alone.id,
        first.id,
        second.id,
    }
    assert (await list_people(session, gallery, external_id="1")).items == [first]


async def test_two_galleries_can_have_people_of_the_same_name(session: AsyncSession, gallery: Gallery) -> None:
    other = await create_gallery(session, "guests", space_of())
    made = await create_person(session, gallery, "Ada", "1")
    await create_person(session, other, "Ada", "1")
    with pytest.raises(NotFound):
        await find_person(session, other, made.id)


async def test_a_person_of_another_tenant_is_not_found(
    session: AsyncSession, other_session: AsyncSession, gallery: Gallery
) -> None:
    made = await create_person(session, gallery, "Ada")
    await session.commit()
    with pytest.raises(NotFound):
        await find_person(other_session, gallery, made.id)
    with pytest.raises(NotFound):
        await delete_person(other_session, gallery, made.id)
    assert (await list_people(other_session, gallery)).items == []


@pytest.mark.parametrize("person_id", ["", "x", "0000000000000", "ZZZZZZZZZZZZZ", "z" * 13, "0" * 12 + "é"])
async def test_a_malformed_or_unknown_identifier_is_not_found(
    session: AsyncSession, gallery: Gallery, person_id: str
) -> None:
    with pytest.raises(NotFound):
        await find_person(session, gallery, person_id)
    with pytest.raises(NotFound):
        await delete_person(session, gallery, person_id)


@pytest.mark.parametrize(
    "metadata",
    [[], "text", {"a": math.nan}, {"a": {1}}, {"a": "\0"}, {"a": "\ud800"}, {"a": "x" * 20_000}, {"\0": 1}],
)
async def test_metadata_that_cannot_be_stored_is_refused(
    session: AsyncSession, gallery: Gallery, metadata: Any
) -> None:
    with pytest.raises(InvalidRequest, match="metadata"):
        await create_person(session, gallery, "Ada", metadata=metadata)


async def test_metadata_is_stored_exactly(session: AsyncSession, gallery: Gallery) -> None:
    metadata = {"a\\u0000": "\\u0000", "ü": [1, 2.5, None, True, {"deep": "🙂"}], "": ""}
    made = await create_person(session, gallery, "Ada", metadata=metadata)
    assert (await find_person(session, gallery, made.id)).metadata == metadata


async def test_pages_list_every_person_once_in_order(session: AsyncSession, gallery: Gallery) -> None:
    made = [(await create_person(session, gallery, f"person {number}")).id for number in range(10)]
    first = await list_people(session, gallery, limit=4)
    second = await list_people(session, gallery, limit=4, cursor=first.next_cursor)
    third = await list_people(session, gallery, limit=4, cursor=second.next_cursor)
    assert [person.id for page in (first, second, third) for person in page.items] == made
    assert third.next_cursor is None


async def test_a_page_that_ends_with_the_list_is_the_last(session: AsyncSession, gallery: Gallery) -> None:
    for number in range(4):
        await create_person(session, gallery, f"person {number}")
    assert (await list_people(session, gallery, limit=4)).next_cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "é", "AAAA", "A" * 22, "'; DROP TABLE person; --"])
async def test_an_invalid_cursor_is_refused(session: AsyncSession, gallery: Gallery, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        await list_people(session, gallery, cursor=cursor)


async def test_the_cursor_of_another_gallery_is_refused(session: AsyncSession, gallery: Gallery) -> None:
    for number in range(2):
        await create_person(session, gallery, f"person {number}")
    cursor = (await list_people(session, gallery, limit=1)).next_cursor
    other = await create_gallery(session, "guests", space_of())
    with pytest.raises(InvalidRequest, match="another list"):
        await list_people(session, other, cursor=cursor)


async def test_an_update_changes_only_the_given_fields(session: AsyncSession, gallery: Gallery) -> None:
    made = await create_person(session, gallery, "Ada", "1", {"floor": 3})
    changed = await update_person(session, gallery, made, name="Grace")
    assert (changed.id, changed.name, changed.external_id, changed.metadata) == (made.id, "Grace", "1", {"floor": 3})
    changed = await update_person(session, gallery, changed, external_id=None, metadata={})
    assert (changed.name, changed.external_id, changed.metadata) == ("Grace", None, {})


async def test_a_change_to_a_taken_name_is_refused(session: AsyncSession, gallery: Gallery) -> None:
    await create_person(session, gallery, "Ada")
    grace = await create_person(session, gallery, "Grace")
    with pytest.raises(Conflict, match="Ada"):
        await update_person(session, gallery, grace, name="Ada")
    assert (await find_person(session, gallery, grace.id)).name == "Grace"


async def test_a_deleted_person_is_not_found_and_the_name_can_be_used_again(
    session: AsyncSession, gallery: Gallery
) -> None:
    made = await create_person(session, gallery, "Ada")
    await delete_person(session, gallery, made.id)
    with pytest.raises(NotFound):
        await find_person(session, gallery, made.id)
    with pytest.raises(NotFound):
        await delete_person(session, gallery, made.id)
    await create_person(session, gallery, "Ada")


async def test_a_person_cannot_be_added_to_a_deleted_gallery(session: AsyncSession, gallery: Gallery) -> None:
    await delete_gallery(session, gallery)
    with pytest.raises(NotFound, match="deleted"):
        await create_person(session, gallery, "Ada")


@pytest.mark.parametrize("external_id", ["", "x" * 501, "a\0", "\udc00"])
async def test_an_external_id_that_cannot_be_used_is_refused(
    session: AsyncSession, gallery: Gallery, external_id: str
) -> None:
    with pytest.raises(InvalidRequest, match="external_id"):
        await create_person(session, gallery, "Ada", external_id)
    ada = await create_person(session, gallery, "Ada")
    with pytest.raises(InvalidRequest, match="external_id"):
        await update_person(session, gallery, ada, external_id=external_id)


async def test_a_person_is_changed_deleted_and_locked_only_through_its_own_gallery(
    session: AsyncSession, gallery: Gallery
) -> None:
    other = await create_gallery(session, "guests", space_of())
    ada = await create_person(session, gallery, "Ada")
    with pytest.raises(NotFound):
        await update_person(session, other, ada, name="Grace")
    with pytest.raises(NotFound):
        await delete_person(session, other, ada.id)
    assert await lock_people(session, other, [ada.number]) == set()
    assert await lock_people(session, gallery, [ada.number]) == {ada.number}
    assert await find_person(session, gallery, ada.id) == ada


async def test_a_locked_person_refuses_a_second_writer_but_not_the_key_of_a_new_face(
    database: Database, tenant_id: int
) -> None:
    async with (
        tenant_session(database.engine, tenant_id) as first,
        tenant_session(database.engine, tenant_id) as second,
    ):
        gallery = await create_gallery(first, "staff", space_of())
        ada = await create_person(first, gallery, "Ada")
        await first.commit()
        await lock_people(first, gallery, [ada.number])
        for strength, lockable in (("NO KEY UPDATE", []), ("KEY SHARE", [ada.number])):
            rows = await second.scalars(text(f"SELECT id FROM person FOR {strength} SKIP LOCKED"))
            assert rows.all() == lockable
        await second.rollback()


async def test_people_are_locked_in_the_order_of_their_numbers_whatever_plan_the_server_takes(
    database: Database, tenant_id: int
) -> None:
    """Two writers that lock the same people in different orders could deadlock."""
    async with (
        tenant_session(database.engine, tenant_id) as first,
        tenant_session(database.engine, tenant_id) as second,
        tenant_session(database.engine, tenant_id) as third,
    ):
        gallery = await create_gallery(first, "staff", space_of())
        ada, grace = [await create_person(first, gallery, name) for name in ("Ada", "Grace")]
        await update_person(first, gallery, ada, name="Ada Lovelace")  # puts her row behind Grace's in the table
        await first.commit()
        await lock_people(first, gallery, [ada.number])
        await second.execute(text("SET LOCAL enable_indexscan = off; SET LOCAL enable_seqscan = on"))
        waiting = asyncio.create_task(lock_people(second, gallery, [grace.number, ada.number]))
        await until_blocked(first, waiting)
        lockable = text("SELECT name FROM person FOR NO KEY UPDATE SKIP LOCKED")
        lockable_names = (await third.scalars(lockable)).all()
        await third.rollback()
        await first.commit()
        assert await waiting == {ada.number, grace.number}
    assert lockable_names == ["Grace"]


async def test_faces_of_a_person_of_another_gallery_with_the_same_number_are_not_counted(
    session: AsyncSession, gallery: Gallery
) -> None:
    """Numbers of people are unique in a gallery only: each key starts with the tenant and the gallery."""
    other = await create_gallery(session, "guests", space_of())
    ada, grace = await create_person(session, gallery, "Ada"), await create_person(session, other, "Grace")
    await session.execute(
        text("UPDATE person SET id = :ada WHERE id = :grace"), {"ada": ada.number, "grace": grace.number}
    )
    await add_faces(session, gallery, ada, [NewFace(np.ones(512))])
    await add_faces(session, other, replace(grace, id=ada.id, number=ada.number), [NewFace(np.ones(512))] * 2)
    assert [(await find_person(session, each, ada.id)).faces for each in (gallery, other)] == [1, 2]


@pytest.mark.parametrize("name", ["Jose\u0301", "Jos\u00e9 ", "\u3000Jos\u00e9\n"])
async def test_canonically_equal_names_are_one_person(session: AsyncSession, gallery: Gallery, name: str) -> None:
    made = await create_person(session, gallery, "Jos\u00e9")
    for other in (None, "1"):
        assert await find_person_named(session, gallery, name, other) == (made if other is None else None)
    with pytest.raises(Conflict):
        await create_person(session, gallery, name)
    eve = await create_person(session, gallery, "Eve", name)
    assert (await find_person_named(session, gallery, "?", "Jos\u00e9"), eve.external_id) == (eve, "Jos\u00e9")
    with pytest.raises(Conflict):
        await update_person(session, gallery, eve, name=name, external_id=None)
    assert (await list_people(session, gallery, name=name)).items == [made]
    assert (await list_people(session, gallery, external_id=name)).items == [eve]
    assert await find_gallery(session, " staff ") == replace(gallery, people=2)
    with pytest.raises(Conflict):
        await create_gallery(session, " staff", space_of())


async def test_a_cursor_of_one_spelling_continues_the_list_of_another(session: AsyncSession, gallery: Gallery) -> None:
    for number in range(2):
        await create_person(session, gallery, "Jos\u00e9", str(number))
    first = await list_people(session, gallery, 1, name="Jose\u0301")
    second = await list_people(session, gallery, 1, first.next_cursor, name="Jos\u00e9")
    assert [person.external_id for person in first.items + second.items] == ["0", "1"]
