"""Moving a face and merging two people: the next search returns the new person, and nothing is lost or left behind."""

import numpy as np
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from service.errors import InvalidRequest, NotFound
from service.gallery import tables
from service.gallery.faces import NewFace, add_faces, list_faces, merge_people, move_face
from service.gallery.galleries import Gallery, create_gallery, find_gallery
from service.gallery.people import Person, create_person, delete_person, find_person
from service.gallery.search.search import search
from tests.support.galleries import Matrix, crowd_of, space_of


@pytest.fixture
async def gallery(session: AsyncSession) -> Gallery:
    return await create_gallery(session, "staff", space_of())


async def person_with(session: AsyncSession, gallery: Gallery, name: str, embeddings: Matrix) -> Person:
    person = await create_person(session, gallery, name)
    await add_faces(session, gallery, person, [NewFace(values, name) for values in embeddings])
    return await find_person(session, gallery, person.id)


async def templates_of(session: AsyncSession, person: Person) -> int:
    rows = select(func.count()).select_from(tables.person_template)
    return int(await session.scalar(rows.where(tables.person_template.c.person_id == person.number)) or 0)


async def test_a_moved_face_belongs_to_the_other_person(session: AsyncSession, gallery: Gallery) -> None:
    ada, grace = crowd_of(2, 3).embeddings[:3], crowd_of(2, 3).embeddings[3:]
    first = await person_with(session, gallery, "Ada", np.concatenate([ada, grace[:1]]))
    second = await person_with(session, gallery, "Grace", grace[1:])
    wrong = (await list_faces(session, gallery, first)).items[3]
    await move_face(session, gallery, first, wrong.id, second)
    (found,) = await search(session, gallery, [grace[0]], limit=1)
    assert (found[0].name, found[0].face_id) == ("Grace", wrong.id)
    assert [face.source for face in (await list_faces(session, gallery, second)).items] == ["Ada", "Grace", "Grace"]
    assert (await templates_of(session, first), await templates_of(session, second)) == (1, 1)
    assert (await find_gallery(session, "staff")).templates == 2


async def test_the_last_face_can_be_moved(session: AsyncSession, gallery: Gallery) -> None:
    embeddings = crowd_of(2, 1).embeddings
    first = await person_with(session, gallery, "Ada", embeddings[:1])
    second = await person_with(session, gallery, "Grace", embeddings[1:])
    await move_face(session, gallery, first, (await list_faces(session, gallery, first)).items[0].id, second)
    assert [person.name for person in (await search(session, gallery, [embeddings[0]]))[0]] == ["Grace"]
    assert (await templates_of(session, first), await templates_of(session, second)) == (0, 2)


async def test_merged_people_are_one_with_all_faces(session: AsyncSession, gallery: Gallery) -> None:
    embeddings = crowd_of(2, 4).embeddings
    first = await person_with(session, gallery, "Ada", embeddings[:4])
    second = await person_with(session, gallery, "Ada L.", embeddings[4:])
    merged = await merge_people(session, gallery, first, second)
    assert (merged.id, merged.name, merged.faces) == (second.id, "Ada L.", 8)
    with pytest.raises(NotFound):
        await find_person(session, gallery, first.id)
    for probe in embeddings:
        (found,) = await search(session, gallery, [probe])
        assert [person.person_id for person in found] == [second.id]
        assert found[0].similarity == pytest.approx(1, abs=1e-3)
    counted = await find_gallery(session, "staff")
    assert (counted.people, counted.faces, counted.templates) == (1, 8, await templates_of(session, second))


async def test_counters_are_zero_after_moving_merging_and_deleting_everything(
    session: AsyncSession, gallery: Gallery
) -> None:
    embeddings = crowd_of(2, 2).embeddings
    first = await person_with(session, gallery, "Ada", embeddings[:2])
    second = await person_with(session, gallery, "Grace", embeddings[2:])
    await move_face(session, gallery, first, (await list_faces(session, gallery, first)).items[0].id, second)
    await merge_people(session, gallery, first, second)
    await delete_person(session, gallery, second.id)
    rows = await session.execute(text("SELECT sum(people), sum(faces), sum(templates), sum(bytes) FROM gallery_size"))
    assert tuple(rows.one()) == (0, 0, 0, 0)


async def test_unknown_faces_and_people_cannot_be_moved_or_merged(session: AsyncSession, gallery: Gallery) -> None:
    embeddings = crowd_of(2, 1).embeddings
    first = await person_with(session, gallery, "Ada", embeddings[:1])
    second = await person_with(session, gallery, "Grace", embeddings[1:])
    face = (await list_faces(session, gallery, first)).items[0]
    with pytest.raises(NotFound, match="face"):
        await move_face(session, gallery, second, face.id, first)
    with pytest.raises(InvalidRequest, match="both are the same person"):
        await merge_people(session, gallery, first, first)
    await delete_person(session, gallery, second.id)
    with pytest.raises(NotFound, match=second.id):
        await merge_people(session, gallery, first, second)
    with pytest.raises(NotFound, match=second.id):
        await move_face(session, gallery, first, face.id, second)


async def test_people_of_another_tenant_cannot_be_merged(
    session: AsyncSession, other_session: AsyncSession, gallery: Gallery
) -> None:
    embeddings = crowd_of(2, 1).embeddings
    first = await person_with(session, gallery, "Ada", embeddings[:1])
    second = await person_with(session, gallery, "Grace", embeddings[1:])
    await session.commit()
    with pytest.raises(NotFound):
        await merge_people(other_session, gallery, first, second)
    assert (await find_person(session, gallery, first.id)).faces == 1
