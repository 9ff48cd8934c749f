"""Consistency of a gallery: unlike references of one person, and people who look alike."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.errors import Forbidden
from service.gallery.faces import NewFace, add_faces
from service.gallery.galleries import Gallery, create_gallery, find_gallery, update_gallery
from service.gallery.people import Person, create_person, find_person_named
from service.gallery.references import similarities
from service.identity.consistency import check_people, unlike_references
from tests.support.galleries import space_of

X, Y, Z = np.eye(3, dtype=np.float32)


async def filled(session: AsyncSession, metric: str = "cosine", **people: Sequence[npt.NDArray[np.float32]]) -> Gallery:
    gallery = await create_gallery(session, "checked", space_of(3, metric))
    for name, vectors in people.items():
        person = await create_person(session, gallery, name)
        await add_faces(session, gallery, person, [NewFace(vector) for vector in vectors])
    return await find_gallery(session, "checked")


async def the_person(session: AsyncSession, gallery: Gallery, name: str) -> Person:
    person = await find_person_named(session, gallery, name)
    assert person is not None
    return person


async def test_references_outside_the_largest_group_are_unlike(session: AsyncSession) -> None:
    gallery = await filled(session, ada=[Y, X, X + 0.1 * Y, X + 0.2 * Y], eve=[Z])
    ada = await the_person(session, gallery, "ada")
    (unlike,) = await unlike_references(session, gallery, ada)
    page = await check_people(session, gallery)
    assert [(each.person.name, each.unlike) for each in page.inconsistent] == [("ada", [unlike])]
    assert unlike.similarity == pytest.approx(0.2 / np.sqrt(1.04), abs=1e-3)
    assert (page.people, page.next_cursor) == (2, None)


async def test_references_are_alike_through_other_references(session: AsyncSession) -> None:
    """X and Y are at a right angle; X + Y resembles both."""
    gallery = await filled(session, ada=[X, Y, X + Y])
    assert await unlike_references(session, gallery, await the_person(session, gallery, "ada")) == []


async def test_of_two_equal_groups_the_older_one_is_right(session: AsyncSession) -> None:
    gallery = await filled(session, ada=[X, Y])
    (unlike,) = await unlike_references(session, gallery, await the_person(session, gallery, "ada"))
    newest = max((await check_people(session, gallery)).inconsistent[0].unlike, key=lambda each: each.face_id)
    assert unlike == newest


async def test_the_threshold_of_the_gallery_decides_which_references_are_alike(session: AsyncSession) -> None:
    gallery = await filled(session, ada=[X, X + Y])  # cosine 0.707
    ada = await the_person(session, gallery, "ada")
    assert await unlike_references(session, gallery, ada) == []
    strict = await update_gallery(session, gallery, threshold=0.8)
    assert len(await unlike_references(session, strict, ada)) == 1


async def test_people_of_different_names_who_match_are_look_alikes(session: AsyncSession) -> None:
    gallery = await filled(session, ada=[X, Y], twin=[X + 0.1 * Z], eve=[Z])
    twin = await create_person(session, gallery, "ada", external_id="7")
    await add_faces(session, gallery, twin, [NewFace(Y)])
    page = await check_people(session, await find_gallery(session, "checked"))
    pairs = {(pair.person.name, pair.other_name): pair.similarity for pair in page.look_alikes}
    assert set(pairs) == {("ada", "twin"), ("twin", "ada")}  # the other "ada" has the same name: no surprise
    assert pairs["ada", "twin"] == pytest.approx(1 / np.sqrt(1.01), abs=1e-3)


async def test_people_are_checked_page_by_page(session: AsyncSession) -> None:
    gallery = await filled(session, a=[X], b=[Y], c=[Z], nobody=[])
    first = await check_people(session, gallery, 3)
    last = await check_people(session, gallery, 3, first.next_cursor)
    assert (first.people, last.people, last.next_cursor) == (3, 1, None)


async def test_a_gallery_for_verification_is_not_searched_for_look_alikes(session: AsyncSession) -> None:
    gallery = await filled(session, ada=[X])
    with pytest.raises(Forbidden):
        await check_people(session, await update_gallery(session, gallery, verification_only=True))


async def test_a_distance_space_has_the_same_rules(session: AsyncSession) -> None:
    gallery = await filled(session, "euclidean", ada=[X, X + 0.3 * Y, X + 3 * Z])
    (unlike,) = await unlike_references(session, gallery, await the_person(session, gallery, "ada"))
    assert unlike.similarity == 0.0


def test_similarities_are_cosines_or_one_minus_the_distance() -> None:
    rows = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
    assert similarities(rows, "cosine") == pytest.approx(np.array([[1, 0.6], [0.6, 1]]), abs=1e-6)
    distance = np.sqrt(0.4**2 + 0.8**2)
    assert similarities(rows, "euclidean")[0, 1] == pytest.approx(1 - distance, abs=1e-6)
