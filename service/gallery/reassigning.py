"""Corrections: moving a face to another person, and merging two people. Templates and counters follow at once."""

from typing import Any

from sqlalchemy import ColumnElement, Integer, delete, literal_column, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.identifiers import from_text
from service.errors import InvalidRequest, NotFound
from service.gallery import tables
from service.gallery.counters import PERSON_BYTES, SizeChange, record_change
from service.gallery.galleries import Gallery
from service.gallery.people import Person, find_person, is_person, lock_people
from service.gallery.templates import renew_templates


async def move_face(session: AsyncSession, gallery: Gallery, source: Person, face_id: str, target: Person) -> None:
    """Move one face of `source` to `target`. Raises NotFound if a person or the face does not exist."""
    await _hold(session, gallery, source, target)
    moved = await session.execute(_give(gallery, source, target, tables.face.c.id == from_text(face_id)))
    if moved.one_or_none() is None:
        raise NotFound(f"there is no face {face_id!r} of person {source.id!r}")
    templates = await renew_templates(session, gallery, [source.number, target.number])
    await record_change(session, gallery.id, SizeChange(templates=templates))


async def merge_people(session: AsyncSession, gallery: Gallery, source: Person, target: Person) -> Person:
    """Move all faces of `source` to `target`, delete `source`, and return the target."""
    await _hold(session, gallery, source, target)
    await session.execute(_give(gallery, source, target))
    templates = await renew_templates(session, gallery, [source.number, target.number])
    measured = literal_column(PERSON_BYTES, Integer)
    removed = await session.scalar(delete(tables.person).where(is_person(gallery, source.number)).returning(measured))
    await record_change(session, gallery.id, SizeChange(people=-1, templates=templates, bytes=-int(removed or 0)))
    return await find_person(session, gallery, target.id)


async def _hold(session: AsyncSession, gallery: Gallery, source: Person, target: Person) -> None:
    if source.number == target.number:
        raise InvalidRequest("both are the same person")
    held = await lock_people(session, gallery, [source.number, target.number])
    for person in (source, target):
        if person.number not in held:
            raise NotFound(f"there is no person {person.id!r} in gallery {gallery.name!r}")


def _give(gallery: Gallery, source: Person, target: Person, *which: ColumnElement[bool]) -> Any:
    """Change the person of the faces. The foreign key of face_detail follows (ON UPDATE CASCADE)."""
    faces = tables.face.c
    of_source = (
        (faces.tenant_id == gallery.tenant_id) & (faces.gallery_id == gallery.id) & (faces.person_id == source.number)
    )
    return update(tables.face).where(of_source, *which).values(person_id=target.number).returning(faces.id)
