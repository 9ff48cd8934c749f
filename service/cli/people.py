"""`face-identity people`: the people of a gallery and their faces."""

import json
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from service.api.faces import FaceShape
from service.api.people import PersonShape
from service.api.shapes import page_of
from service.cli.confirm import Yes, confirm
from service.cli.context import DEFAULT_GALLERY, DEFAULT_TENANT, Gallery, Tenant, asynchronous, open_context
from service.cli.output import Json, write_json, write_line, write_table
from service.cli.pages import Cursor, Limit, tell_of_more
from service.errors import Conflict, InvalidRequest, NotFound
from service.gallery import galleries
from service.gallery.faces import delete_face, list_faces
from service.gallery.galleries import find_gallery
from service.gallery.people import Person, create_person, delete_person, find_person, list_people, update_person

application = typer.Typer(help="Create, list, show, rename and erase people and their faces.")

WhichPerson = Annotated[str, typer.Argument(metavar="PERSON", help="The person's id, name or external id.")]
ExternalId = Annotated[str | None, typer.Option("--external-id", help="The person's key in another system.")]
Metadata = Annotated[str | None, typer.Option("--metadata", help="A JSON object to keep with the person.")]


async def which_person(session: AsyncSession, gallery: galleries.Gallery, text: str) -> Person:
    """The one person that the text means: by id, else by name, else by external id."""
    try:
        return await find_person(session, gallery, text)
    except NotFound:
        page = await list_people(session, gallery, 2, None, name=text)
    page = page if page.items else await list_people(session, gallery, 2, None, external_id=text)
    if len(page.items) > 1:
        raise Conflict(f"several people are named {text!r}; give the id of one (`people list --name` shows them)")
    if not page.items:
        raise NotFound(f"there is nobody with id, name or external id {text!r} in gallery {gallery.name!r}")
    return page.items[0]


@application.command()
@asynchronous
async def create(
    name: Annotated[str, typer.Argument(help="The person's name.")],
    *,
    external_id: ExternalId = None,
    metadata: Metadata = None,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Create a person, to whom faces are added with `enroll --name`."""
    async with open_context(tenant) as context, context.session() as session:
        found = await find_gallery(session, gallery)
        person = await create_person(session, found, name, external_id, _as_object(metadata))
        await session.commit()
    _tell(person, as_json)


@application.command("list")
@asynchronous
async def list_all(
    *,
    name: Annotated[str | None, typer.Option("--name", help="Only people of this name.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """List the people of a gallery."""
    async with open_context(tenant) as context, context.session() as session:
        page = await list_people(session, await find_gallery(session, gallery), limit, cursor, name=name)
    if as_json:
        write_json(page_of(page, PersonShape.of))
        return
    rows = [(person.id, person.name, person.external_id, person.faces, person.created_at) for person in page.items]
    write_table(["id", "name", "external id", "faces", "created"], rows, "There is nobody.")
    tell_of_more(page)


@application.command()
@asynchronous
async def show(
    person: WhichPerson,
    *,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Show one person."""
    async with open_context(tenant) as context, context.session() as session:
        found = await which_person(session, await find_gallery(session, gallery), person)
    _tell(found, as_json)


@application.command()
@asynchronous
async def update(
    person: WhichPerson,
    *,
    rename: Annotated[str | None, typer.Option("--rename", help="The person's new name.")] = None,
    external_id: ExternalId = None,
    metadata: Metadata = None,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Change a person's name, external id (empty: none) or metadata."""
    changes: dict[str, Any] = {} if rename is None else {"name": rename}
    changes |= {} if external_id is None else {"external_id": external_id or None}
    changes |= {} if metadata is None else {"metadata": _as_object(metadata)}
    async with open_context(tenant) as context, context.session() as session:
        where = await find_gallery(session, gallery)
        changed = await update_person(session, where, await which_person(session, where, person), **changes)
        await session.commit()
    _tell(changed, as_json)


@application.command()
@asynchronous
async def delete(
    person: WhichPerson,
    *,
    yes: Yes = False,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Erase a person with all faces."""
    async with open_context(tenant) as context, context.session() as session:
        found = await which_person(session, await find_gallery(session, gallery), person)
        await session.rollback()
        confirm(f"Erase {found.name!r} ({found.id}) with {found.faces} faces?", yes)
        await delete_person(session, await find_gallery(session, gallery), found.id)
        await session.commit()
    if as_json:
        write_json({"deleted": found.id})
        return
    write_line(f"{found.name} ({found.id}) is erased.")


@application.command()
@asynchronous
async def faces(
    person: WhichPerson,
    *,
    limit: Limit = 100,
    cursor: Cursor = None,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """List a person's faces."""
    async with open_context(tenant) as context, context.session() as session:
        where = await find_gallery(session, gallery)
        page = await list_faces(session, where, await which_person(session, where, person), limit, cursor)
    if as_json:
        write_json(page_of(page, FaceShape.of))
        return
    rows = [(face.id, face.source, face.created_at) for face in page.items]
    write_table(["id", "picture", "enrolled"], rows, "There is no face.")
    tell_of_more(page)


@application.command()
@asynchronous
async def forget(
    person: WhichPerson,
    face: Annotated[str, typer.Argument(metavar="FACE", help="The face's id, as `people faces` shows it.")],
    *,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Erase one face of a person."""
    async with open_context(tenant) as context, context.session() as session:
        where = await find_gallery(session, gallery)
        await delete_face(session, where, await which_person(session, where, person), face)
        await session.commit()
    if as_json:
        write_json({"deleted": face})
        return
    write_line(f"Face {face} is erased.")


def _tell(person: Person, as_json: bool) -> None:
    if as_json:
        write_json(PersonShape.of(person))
        return
    rows = [(person.id, person.name, person.external_id, person.faces, person.created_at)]
    write_table(["id", "name", "external id", "faces", "created"], rows, "")


def _as_object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"--metadata is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("--metadata is a JSON object")
    return value
