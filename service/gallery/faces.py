"""Faces of a person: adding, listing, deleting, moving to another person; merging two people.

Templates and counters change in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Integer, delete, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.identifiers import from_text, made_at, to_text
from service.database.pagination import Cursor, Page, check_limit
from service.errors import InvalidRequest, NotFound
from service.gallery import tables
from service.gallery.galleries import FACE_BYTES, PERSON_BYTES, Gallery, SizeChange, record_change
from service.gallery.people import Person, find_person, is_person, lock_people
from service.gallery.templates import renew_templates
from service.gallery.writing import prepare_face, store_faces


@dataclass(frozen=True)
class NewFace:
    """A face to enroll: its embedding, the source given by the caller, and the detector's result."""

    values: Sequence[float] | npt.NDArray[np.floating]
    source: Any | None = None
    detection: dict[str, Any] | None = None


@dataclass(frozen=True)
class Face:
    """A reference of a person, without its embedding."""

    id: str
    person_id: str
    source: Any | None
    detection: dict[str, Any] | None
    created_at: datetime


async def add_faces(session: AsyncSession, gallery: Gallery, person: Person, faces: Sequence[NewFace]) -> list[Face]:
    """Add references to a person. All are checked before one is written. Raises NotFound if the person was deleted."""
    prepared = [prepare_face(face.values, gallery.space, face.source, face.detection) for face in faces]
    if not prepared:
        return []
    await _lock(session, gallery, person)
    numbers = await store_faces(session, gallery, [person.number] * len(prepared), prepared)
    details = tables.face_detail.c
    statement = _details(gallery, person).where(details.face_id.in_(numbers)).order_by(details.face_id)
    return [_face(row) for row in await session.execute(statement)]


async def list_faces(
    session: AsyncSession, gallery: Gallery, person: Person, limit: int = 100, cursor: str | None = None
) -> Page[Face]:
    """The person's faces, in the order of enrollment."""
    cursors = Cursor("faces", gallery.tenant_id, gallery.id, person.number)
    details = tables.face_detail.c
    statement = _details(gallery, person).where(details.face_id > cursors.after(cursor))
    rows = (await session.execute(statement.order_by(details.face_id).limit(check_limit(limit) + 1))).all()
    return cursors.page([_face(row) for row in rows], [row.face_id for row in rows], limit)


async def delete_face(session: AsyncSession, gallery: Gallery, person: Person, face_id: str) -> None:
    """Delete one face. Raises NotFound if the person has no face with this identifier."""
    await _lock(session, gallery, person)
    faces = tables.face.c
    statement = delete(tables.face).where(
        faces.tenant_id == gallery.tenant_id,
        faces.gallery_id == gallery.id,
        faces.person_id == person.number,
        faces.id == from_text(face_id),
    )
    size = await _bytes_of(session, gallery, person, face_id)
    if (await session.execute(statement.returning(faces.id))).one_or_none() is None:
        raise NotFound(f"there is no face {face_id!r} of person {person.id!r}")
    templates = await renew_templates(session, gallery, [person.number])
    await record_change(session, gallery.id, SizeChange(faces=-1, templates=templates, bytes=-size))


async def move_face(session: AsyncSession, gallery: Gallery, source: Person, face_id: str, target: Person) -> None:
    """Move one face of `source` to `target`. Raises NotFound if a person or the face does not exist."""
    await _lock_both(session, gallery, source, target)
    moved = await session.execute(_change_person(gallery, source, target, tables.face.c.id == from_text(face_id)))
    if moved.one_or_none() is None:
        raise NotFound(f"there is no face {face_id!r} of person {source.id!r}")
    templates = await renew_templates(session, gallery, [source.number, target.number])
    await record_change(session, gallery.id, SizeChange(templates=templates))


async def merge_people(session: AsyncSession, gallery: Gallery, source: Person, target: Person) -> Person:
    """Move all faces of `source` to `target`, delete `source`, and return the target."""
    await _lock_both(session, gallery, source, target)
    await session.execute(_change_person(gallery, source, target))
    templates = await renew_templates(session, gallery, [source.number, target.number])
    measured = literal_column(PERSON_BYTES, Integer)
    removed = await session.scalar(delete(tables.person).where(is_person(gallery, source.number)).returning(measured))
    await record_change(session, gallery.id, SizeChange(people=-1, templates=templates, bytes=-int(removed or 0)))
    return await find_person(session, gallery, target.id)


async def _lock(session: AsyncSession, gallery: Gallery, person: Person) -> None:
    if not await lock_people(session, gallery, [person.number]):
        raise NotFound(f"there is no person {person.id!r} in gallery {gallery.name!r}")


async def _lock_both(session: AsyncSession, gallery: Gallery, source: Person, target: Person) -> None:
    if source.number == target.number:
        raise InvalidRequest("both are the same person")
    held = await lock_people(session, gallery, [source.number, target.number])
    for person in (source, target):
        if person.number not in held:
            raise NotFound(f"there is no person {person.id!r} in gallery {gallery.name!r}")


def _change_person(gallery: Gallery, source: Person, target: Person, *which: ColumnElement[bool]) -> Any:
    """Change the person of the faces. The foreign key of face_detail follows (ON UPDATE CASCADE)."""
    faces = tables.face.c
    of_source = (
        (faces.tenant_id == gallery.tenant_id) & (faces.gallery_id == gallery.id) & (faces.person_id == source.number)
    )
    return update(tables.face).where(of_source, *which).values(person_id=target.number).returning(faces.id)


async def _bytes_of(session: AsyncSession, gallery: Gallery, person: Person, face_id: str) -> int:
    """Bytes of the face's detail row, or 0 if there is none."""
    details = tables.face_detail.c
    measured = select(literal_column(FACE_BYTES, Integer)).where(
        details.tenant_id == gallery.tenant_id,
        details.gallery_id == gallery.id,
        details.person_id == person.number,
        details.face_id == from_text(face_id),
    )
    return int(await session.scalar(measured) or 0)


def _details(gallery: Gallery, person: Person) -> Any:
    details = tables.face_detail.c
    columns = (details.person_id, details.face_id, details.source, details.detection)
    return select(*columns).where(
        details.tenant_id == gallery.tenant_id,
        details.gallery_id == gallery.id,
        details.person_id == person.number,
    )


def _face(row: Any) -> Face:
    return Face(to_text(row.face_id), to_text(row.person_id), row.source, row.detection, made_at(row.face_id))
