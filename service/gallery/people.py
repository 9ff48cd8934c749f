"""People of a gallery. A name is unique, except among people with an external id; metadata is free JSON."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    delete,
    func,
    insert,
    literal_column,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.identifiers import from_text, new_identifier, to_text
from service.database.names import canonical_name
from service.database.pagination import Cursor, Page, check_limit
from service.database.session import tenant_of
from service.errors import Conflict, NotFound
from service.gallery import tables
from service.gallery.content import MAXIMUM_NAME_LENGTH, UNSET, Unset, check_metadata, check_name
from service.gallery.galleries import FACE_BYTES, PERSON_BYTES, Gallery, SizeChange, record_change

EXTERNAL = "external:"
"""Stands before an external id where the id of a person is expected."""
_BYTES = literal_column(PERSON_BYTES, Integer).label("bytes")


@dataclass(frozen=True)
class Person:
    """An enrolled identity. `id` is the public form of `number`. `faces` counts the references."""

    id: str
    number: int
    name: str
    external_id: str | None
    metadata: dict[str, Any]
    faces: int
    created_at: datetime


async def create_person(
    session: AsyncSession,
    gallery: Gallery,
    name: str,
    external_id: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> Person:
    """Make a person without a face. Raises Conflict if the name or the external id is taken."""
    values = {
        "tenant_id": tenant_of(session),
        "gallery_id": gallery.id,
        "id": new_identifier(),
        "name": check_name(name),
        "external_id": None if external_id is None else check_name(external_id, "external_id"),
        "metadata": check_metadata({} if metadata is None else metadata),
    }
    statement = insert(tables.person).values(values).returning(tables.person, _BYTES)
    try:
        async with session.begin_nested():
            row = (await session.execute(statement)).one()
    except IntegrityError as error:
        raise _refusal(error, gallery, name, external_id) from error
    await record_change(session, gallery.id, SizeChange(people=1, bytes=row.bytes))
    return _person(row, 0)


async def find_person(session: AsyncSession, gallery: Gallery, person_id: str) -> Person:
    """The person with this public identifier, or with the external id in `external:EXTERNAL_ID`.

    Raises NotFound if the gallery has no such person.
    """
    if person_id.startswith(EXTERNAL):
        external_id = check_name(person_id.removeprefix(EXTERNAL), "external_id")
        person = await find_person_named(session, gallery, "", external_id)
        if person is None:
            raise NotFound(f"no person of gallery {gallery.name!r} has the external_id {external_id!r}")
        return person
    statement = _with_faces(session, gallery, tables.person.c.id == from_text(person_id))
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise _no_person(gallery, person_id)
    return _person(row, row.faces)


def _no_person(gallery: Gallery, person_id: str) -> NotFound:
    """The error for an id that no person has. A text that is no id at all is most likely a name."""
    detail = f"no person of gallery {gallery.name!r} has the id {person_id!r}"
    if from_text(person_id) is None:
        detail += f"; ids are found with ?name={quote(person_id[:MAXIMUM_NAME_LENGTH])}"
    return NotFound(detail)


async def find_person_named(
    session: AsyncSession, gallery: Gallery, name: str, external_id: str | None = None
) -> Person | None:
    """The person with that external id, or without external id and with that name. None if there is none."""
    people = tables.person.c
    known: ColumnElement[bool]
    if external_id is None:
        known = (people.name == canonical_name(name)) & people.external_id.is_(None)
    else:
        known = people.external_id == canonical_name(external_id)
    wanted = people.id == _numbers_of(gallery, known).scalar_subquery()
    row = (await session.execute(_with_faces(session, gallery, wanted))).one_or_none()
    return None if row is None else _person(row, row.faces)


async def metadata_of_people(
    session: AsyncSession, galleries: Sequence[Gallery], person_ids: Collection[str]
) -> dict[str, dict[str, Any]]:
    """The metadata of people of these galleries, by their public identifiers. Unknown people are left out."""
    people = tables.person.c
    numbers = [number for number in map(from_text, person_ids) if number is not None]
    if not numbers:
        return {}
    statement = select(people.id, people.metadata).where(
        people.tenant_id == tenant_of(session),
        people.gallery_id == func.any([gallery.id for gallery in galleries]),
        people.id == func.any(numbers),
    )
    return {to_text(row.id): row.metadata for row in await session.execute(statement)}


async def list_people(
    session: AsyncSession,
    gallery: Gallery,
    limit: int = 100,
    cursor: str | None = None,
    *,
    name: str | None = None,
    external_id: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> Page[Person]:
    """List the gallery's people in the order they were added; every filter that is given must hold.

    `metadata`: only people whose metadata contains this object (PostgreSQL's `@>`). No index serves it: the page is
    read along the primary key and filtered, so a rare value reads many people.
    """
    filtered = None if metadata is None else json.dumps(check_metadata(metadata), sort_keys=True)
    name = None if name is None else check_name(name)
    external_id = None if external_id is None else check_name(external_id, "external_id")
    cursors = Cursor("people", tenant_of(session), gallery.id, name, external_id, filtered)
    wanted = tables.person.c.id > cursors.after(cursor)
    if name is not None:
        wanted &= tables.person.c.id.in_(_named(gallery, name))
    if external_id is not None:
        known = tables.person.c.external_id == external_id
        wanted &= tables.person.c.id == _numbers_of(gallery, known).scalar_subquery()
    if metadata is not None:
        wanted &= tables.person.c.metadata.contains(metadata)
    statement = _with_faces(session, gallery, wanted).order_by(tables.person.c.id).limit(check_limit(limit) + 1)
    people = [_person(row, row.faces) for row in await session.execute(statement)]
    return cursors.page(people, [person.number for person in people], limit)


async def update_person(
    session: AsyncSession,
    gallery: Gallery,
    person: Person,
    *,
    name: str | Unset = UNSET,
    external_id: str | Unset | None = UNSET,
    metadata: dict[str, Any] | Unset = UNSET,
) -> Person:
    """Change the given fields. Raises Conflict if the new name or external id is taken."""
    values: dict[str, Any] = {}
    if not isinstance(name, Unset):
        values["name"] = check_name(name)
    if not isinstance(external_id, Unset):
        values["external_id"] = None if external_id is None else check_name(external_id, "external_id")
    if not isinstance(metadata, Unset):
        values["metadata"] = check_metadata(metadata)
    if values:
        try:
            async with session.begin_nested():
                grown = await _change(session, gallery, person, values)
        except IntegrityError as error:
            now = {"name": person.name, "external_id": person.external_id} | values
            raise _refusal(error, gallery, now["name"], now["external_id"]) from error
        await record_change(session, gallery.id, SizeChange(bytes=grown))
    return await find_person(session, gallery, person.id)


async def delete_person(session: AsyncSession, gallery: Gallery, person_id: str) -> None:
    """Delete a person with all faces and templates. Raises NotFound if the gallery has no such person."""
    number = (await find_person(session, gallery, person_id)).number
    await lock_people(session, gallery, [number])
    counts = select(
        _sum_of(tables.face, gallery, number, "1"),
        _sum_of(tables.person_template, gallery, number, "1"),
        _sum_of(tables.face_detail, gallery, number, FACE_BYTES),
    )
    faces, templates, size = (await session.execute(counts)).one()
    statement = delete(tables.person).where(is_person(gallery, number)).returning(_BYTES)
    deleted = (await session.execute(statement)).one_or_none()
    if deleted is None:
        raise _no_person(gallery, person_id)
    await record_change(session, gallery.id, SizeChange(-1, -faces, -templates, -size - deleted.bytes))


async def lock_people(session: AsyncSession, gallery: Gallery, numbers: Sequence[int]) -> set[int]:
    """Lock people until the transaction ends, and return the numbers of those that exist.

    The lock lets one writer at a time change a person's templates. The rows are locked in the order of their numbers,
    so that two writers cannot deadlock.
    """
    people = tables.person.c
    statement = (
        select(people.id)
        .where(people.tenant_id == gallery.tenant_id, people.gallery_id == gallery.id)
        .where(people.id == func.any(list(numbers)))
        .order_by(people.id)
        .with_for_update(key_share=True)
    )
    return set((await session.scalars(statement)).all())


def is_person(gallery: Gallery, number: int | None) -> ColumnElement[bool]:
    """The condition that names one person by its whole primary key."""
    people = tables.person.c
    return (people.tenant_id == gallery.tenant_id) & (people.gallery_id == gallery.id) & (people.id == number)


async def _change(session: AsyncSession, gallery: Gallery, person: Person, values: dict[str, Any]) -> int:
    """Write the values, and return by how many bytes the person grew."""
    await lock_people(session, gallery, [person.number])
    before = await session.scalar(select(_BYTES).where(is_person(gallery, person.number)))
    statement = update(tables.person).where(is_person(gallery, person.number)).values(values).returning(_BYTES)
    return int(await session.scalar(statement) or 0) - int(before or 0)


def _sum_of(table: Any, gallery: Gallery, number: int | None, measure: str) -> Any:
    rows = select(func.coalesce(func.sum(literal_column(measure, Integer)), 0)).select_from(table)
    return rows.where(
        table.c.tenant_id == gallery.tenant_id, table.c.gallery_id == gallery.id, table.c.person_id == number
    ).scalar_subquery()


def _named(gallery: Gallery, name: str) -> Any:
    """Numbers of all people with that name. Each of the two partial indexes gets a condition that only it can serve."""
    people = tables.person.c
    alone = _numbers_of(gallery, (people.name == name) & people.external_id.is_(None))
    others = select(people.id).where(
        people.tenant_id == gallery.tenant_id,
        tables.by_shared_name_index(people.gallery_id) == tables.by_shared_name_index(gallery.id),
        people.name == name,
        people.external_id.is_not(None),
    )
    return union_all(alone, others)


def _numbers_of(gallery: Gallery, known: ColumnElement[bool]) -> Select[tuple[int]]:
    """Numbers of the people that `known` identifies, with the condition of the name indexes (see tables.py)."""
    people = tables.person.c
    named = tables.by_name_index(people.gallery_id) == tables.by_name_index(gallery.id)
    return select(people.id).where(people.tenant_id == gallery.tenant_id, named, known)


def _with_faces(session: AsyncSession, gallery: Gallery, wanted: ColumnElement[bool]) -> Select[Any]:
    people, faces = tables.person.c, tables.face.c
    counted = (
        select(func.count().label("faces"))
        .where(faces.tenant_id == tenant_of(session), faces.gallery_id == gallery.id, faces.person_id == people.id)
        .lateral("counted")
    )
    return select(tables.person, counted).where(
        people.tenant_id == tenant_of(session), people.gallery_id == gallery.id, wanted
    )


def _person(row: Row[Any], faces: int) -> Person:
    return Person(to_text(row.id), row.id, row.name, row.external_id, row.metadata, faces, row.created_at)


def _refusal(error: IntegrityError, gallery: Gallery, name: str, external_id: str | None) -> Conflict | NotFound:
    if "foreign key" in str(error.orig):
        return NotFound(f"gallery {gallery.name!r} was deleted")
    if external_id is not None:
        return Conflict(f"gallery {gallery.name!r} already has a person with external_id {external_id!r}")
    return Conflict(
        f"gallery {gallery.name!r} already has a person named {name!r}; give an external_id to tell them apart"
    )
