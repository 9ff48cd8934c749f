"""Faces of a person: added, listed, deleted; found by the next search, and never again after deletion."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import Database
from service.database.session import tenant_session
from service.errors import InvalidEmbedding, InvalidRequest, NotFound
from service.gallery.faces import NewFace, add_faces, delete_face, list_faces
from service.gallery.galleries import Gallery, create_gallery
from service.gallery.people import Person, create_person, delete_person, find_person
from service.gallery.search.search import best_reference, search
from tests.support.galleries import crowd_of, space_of


@pytest.fixture
async def gallery(session: AsyncSession) -> Gallery:
    return await create_gallery(session, "staff", space_of())


@pytest.fixture
async def person(session: AsyncSession, gallery: Gallery) -> Person:
    return await create_person(session, gallery, "Ada")


def new_faces(count: int, seed: int = 0) -> list[NewFace]:
    return [NewFace(values, f"{place}.jpg") for place, values in enumerate(crowd_of(1, count, seed=seed).embeddings)]


async def test_faces_are_listed_in_the_order_they_were_added(
    session: AsyncSession, gallery: Gallery, person: Person
) -> None:
    detection = {"box": [1, 2, 3, 4], "detection_score": 0.99}
    values = crowd_of(1, 3).embeddings
    added = await add_faces(
        session, gallery, person, [NewFace(values[0], "a.jpg"), NewFace(values[1], 7, detection), NewFace(values[2])]
    )
    assert [(face.source, face.detection) for face in added] == [("a.jpg", None), (7, detection), (None, None)]
    assert (await list_faces(session, gallery, person)).items == added
    assert (await find_person(session, gallery, person.id)).faces == 3


async def test_faces_come_in_pages(session: AsyncSession, gallery: Gallery, person: Person) -> None:
    added = await add_faces(session, gallery, person, new_faces(5))
    first = await list_faces(session, gallery, person, limit=3)
    second = await list_faces(session, gallery, person, limit=3, cursor=first.next_cursor)
    assert first.items + second.items == added
    assert second.next_cursor is None


async def test_an_added_face_is_found_by_the_next_search(
    session: AsyncSession, gallery: Gallery, person: Person
) -> None:
    added = await add_faces(session, gallery, person, new_faces(2))
    (found,) = (await search(session, gallery, [np.asarray(new_faces(2)[1].values)]))[0]
    assert (found.person_id, found.name, found.face_id) == (person.id, "Ada", added[1].id)
    assert found.similarity == pytest.approx(1.0, abs=1e-3)


async def test_a_deleted_face_is_not_found_again(session: AsyncSession, gallery: Gallery, person: Person) -> None:
    first, second = new_faces(1, seed=1)[0], new_faces(1, seed=2)[0]
    faces = await add_faces(session, gallery, person, [first, second])
    await delete_face(session, gallery, person, faces[0].id)
    (found,) = (await search(session, gallery, [np.asarray(first.values)]))[0]
    assert found.face_id == faces[1].id
    assert found.similarity < 0.3
    with pytest.raises(NotFound):
        await delete_face(session, gallery, person, faces[0].id)


async def test_faces_of_a_deleted_person_are_not_found(session: AsyncSession, gallery: Gallery, person: Person) -> None:
    await add_faces(session, gallery, person, new_faces(2))
    await delete_person(session, gallery, person.id)
    assert await search(session, gallery, [np.asarray(new_faces(1)[0].values)]) == [[]]
    with pytest.raises(NotFound):
        await add_faces(session, gallery, person, new_faces(1))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1.0] * 511, "511 numbers"),
        ([], "0 numbers"),
        ([0.0] * 512, "zero"),
        ([1.0] * 511 + [math.nan], "number 511"),
        ([math.inf] + [1.0] * 511, "number 0"),
        ([[1.0] * 512], "512"),
    ],
)
async def test_one_invalid_embedding_refuses_all_faces_of_the_call(
    session: AsyncSession, gallery: Gallery, person: Person, values: Sequence[float], reason: str
) -> None:
    with pytest.raises(InvalidEmbedding, match=reason):
        await add_faces(session, gallery, person, [*new_faces(1), NewFace(values)])
    assert (await list_faces(session, gallery, person)).items == []


async def test_a_source_that_is_not_json_is_refused(session: AsyncSession, gallery: Gallery, person: Person) -> None:
    with pytest.raises(InvalidRequest, match="source"):
        await add_faces(session, gallery, person, [NewFace(new_faces(1)[0].values, source=b"bytes")])


async def test_a_face_is_deleted_only_through_its_own_person_and_tenant(
    session: AsyncSession, other_session: AsyncSession, gallery: Gallery, person: Person
) -> None:
    (face,) = await add_faces(session, gallery, person, new_faces(1))
    other = await create_person(session, gallery, "Grace")
    with pytest.raises(NotFound):
        await delete_face(session, gallery, other, face.id)
    await session.commit()
    with pytest.raises(NotFound):
        await delete_face(other_session, gallery, person, face.id)
    assert await search(other_session, gallery, [np.asarray(new_faces(1)[0].values)]) == [[]]
    assert len((await list_faces(session, gallery, person)).items) == 1


async def test_the_best_reference_of_a_person_is_returned(
    session: AsyncSession, gallery: Gallery, person: Person
) -> None:
    assert await best_reference(session, gallery, person, np.ones(512, np.float32)) is None
    faces = await add_faces(session, gallery, person, new_faces(3))
    other = await create_person(session, gallery, "Grace")
    await add_faces(session, gallery, other, new_faces(3, seed=5))
    found = await best_reference(session, gallery, person, np.asarray(new_faces(3)[2].values))
    assert found is not None
    assert (found.person_id, found.face_id) == (person.id, faces[2].id)
    assert found.similarity == pytest.approx(1.0, abs=1e-3)


async def test_the_best_reference_is_the_nearest_of_a_person_at_every_position(
    session: AsyncSession, gallery: Gallery, person: Person
) -> None:
    references = new_faces(3)
    faces = await add_faces(session, gallery, person, references)
    for face, reference in zip(faces, references, strict=True):
        nearest = await best_reference(session, gallery, person, np.asarray(reference.values))
        assert nearest is not None
        assert nearest.face_id == face.id


async def test_a_deleted_face_gives_back_the_bytes_that_it_took(
    session: AsyncSession, gallery: Gallery, person: Person
) -> None:
    size = text("SELECT sum(faces), sum(bytes) FROM gallery_size")
    before = tuple((await session.execute(size)).one())
    (face,) = await add_faces(session, gallery, person, new_faces(1))
    assert tuple((await session.execute(size)).one()) > before
    await delete_face(session, gallery, person, face.id)
    assert tuple((await session.execute(size)).one()) == before


async def test_a_person_is_locked_while_a_face_is_deleted(database: Database, tenant_id: int) -> None:
    """Without the lock two writers could make the templates of the person anew at the same time."""
    lockable = text("SELECT name FROM person ORDER BY name FOR NO KEY UPDATE SKIP LOCKED")
    async with (
        tenant_session(database.engine, tenant_id) as first,
        tenant_session(database.engine, tenant_id) as second,
    ):
        gallery = await create_gallery(first, "staff", space_of())
        ada, _ = [await create_person(first, gallery, name) for name in ("Ada", "Grace")]
        faces = await add_faces(first, gallery, ada, new_faces(2))
        await first.commit()
        await delete_face(first, gallery, ada, faces[0].id)
        assert (await second.scalars(lockable)).all() == ["Grace"]
        await second.rollback()
