"""A person who is given by name or external id instead of by id, and is created if missing."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from service.errors import Conflict, InvalidRequest
from service.gallery.content import check_name
from service.gallery.galleries import Gallery
from service.gallery.people import Person, create_person, list_people


@dataclass(frozen=True)
class NamedPerson:
    """At least one of a name and an external id. The external id decides if both are given."""

    name: str | None = None
    external_id: str | None = None


async def find_named_person(session: AsyncSession, gallery: Gallery, named: NamedPerson) -> Person | None:
    """The person, or None if there is none.

    Raises Conflict if several people have the name, or if the person with the external id has another name.
    """
    if named.external_id is not None:
        page = await list_people(session, gallery, 1, external_id=named.external_id)
        person = page.items[0] if page.items else None
        if person is not None and named.name is not None and person.name != check_name(named.name):
            raise Conflict(f"the person with external_id {named.external_id!r} has another name than {named.name!r}")
        return person
    if named.name is None:
        raise InvalidRequest("name the person by person, by external_id, or by both")
    page = await list_people(session, gallery, 2, name=named.name)
    if len(page.items) > 1:
        raise Conflict(f"several people are named {named.name!r}: give the external_id of one of them")
    return page.items[0] if page.items else None


async def find_or_create_person(session: AsyncSession, gallery: Gallery, named: NamedPerson) -> tuple[Person, bool]:
    """The person, and whether it was created now. A new person without a name gets the external id as its name.

    Raises Conflict as `find_named_person` does.
    """
    if found := await find_named_person(session, gallery, named):
        return found, False
    try:
        name = named.name if named.name is not None else named.external_id or ""
        return await create_person(session, gallery, name, named.external_id), True
    except Conflict:
        # An equal request at the same time was faster.
        if found := await find_named_person(session, gallery, named):
            return found, False
        raise
