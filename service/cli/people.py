"""`face-identity people`: the people of a gallery and their faces."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.context import asynchronous, open_gallery
from service.cli.options import (
    DEFAULT_GALLERY,
    DEFAULT_TENANT,
    Cursor,
    GalleryName,
    Limit,
    MetadataFilter,
    TenantName,
    Yes,
    confirm,
    json_object,
    tell_next_page,
)
from service.cli.output import Json, progress, remark, write_json, write_line, write_table
from service.errors import Conflict, NotFound

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from service.gallery.galleries import Gallery
    from service.gallery.people import Person
    from service.identity.consistency import Consistency, InconsistentPerson, LookAlikes, SameName

application = typer.Typer(help="Create, list, show, rename, merge and erase people and their faces.")

WhichPerson = Annotated[str, typer.Argument(metavar="PERSON", help="The person's id, name or external id.")]
FaceId = Annotated[str, typer.Argument(metavar="FACE", help="The face's id, as `people faces` shows it.")]
ExternalId = Annotated[str | None, typer.Option("--external-id", help="The person's id in another system.")]
Metadata = Annotated[
    str | None, typer.Option("--metadata", metavar="JSON", help="A JSON object to store with the person.")
]


async def which_person(session: "AsyncSession", gallery: "Gallery", text: str) -> "Person":
    """Find a person by id, else by name, else by external id.

    Raises NotFound if there is none, Conflict if several people have this name.
    """
    from service.gallery.people import find_person, list_people

    try:
        return await find_person(session, gallery, text)
    except NotFound:
        page = await list_people(session, gallery, 2, None, name=text)
    page = page if page.items else await list_people(session, gallery, 2, None, external_id=text)
    if len(page.items) > 1:
        raise Conflict(f"several people are named {text!r}: give an id (`people list --name` shows them)")
    if not page.items:
        raise NotFound(f"gallery {gallery.name!r} has no person with id, name or external id {text!r}")
    return page.items[0]


@application.command()
@asynchronous
async def create(
    name: Annotated[str, typer.Argument(help="The person's name.")],
    *,
    external_id: ExternalId = None,
    metadata: Metadata = None,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Create a person without faces; `enroll --name` adds faces."""
    from service.gallery.people import create_person

    async with open_gallery(tenant, gallery) as (session, place):
        person = await create_person(session, place, name, external_id, json_object(metadata))
        await session.commit()
    _print_person(person, as_json)


@application.command("list")
@asynchronous
async def list_all(
    *,
    name: Annotated[str | None, typer.Option("--name", help="Only people with this name.")] = None,
    metadata: MetadataFilter = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """List the people of a gallery."""
    from service.gallery.people import list_people

    wanted = json_object(metadata)
    async with open_gallery(tenant, gallery) as (session, place):
        page = await list_people(session, place, limit, cursor, name=name, metadata=wanted)
    if as_json:
        from service.api.people import PersonShape
        from service.api.shapes import page_of

        write_json(page_of(page, PersonShape.of))
        return
    write_table(_HEADINGS, [_row(person) for person in page.items], "There are no people.")
    tell_next_page(page)


@application.command()
@asynchronous
async def show(
    person: WhichPerson,
    *,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Show one person."""
    async with open_gallery(tenant, gallery) as (session, place):
        shown = await which_person(session, place, person)
    _print_person(shown, as_json)


@application.command()
@asynchronous
async def update(
    person: WhichPerson,
    *,
    rename: Annotated[str | None, typer.Option("--rename", help="The person's new name.")] = None,
    external_id: ExternalId = None,
    metadata: Metadata = None,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Change a person's name, external id (empty removes it) or metadata."""
    from service.gallery.people import update_person

    changes: dict[str, Any] = {} if rename is None else {"name": rename}
    changes |= {} if external_id is None else {"external_id": external_id or None}
    changes |= {} if metadata is None else {"metadata": json_object(metadata)}
    async with open_gallery(tenant, gallery) as (session, place):
        changed = await update_person(session, place, await which_person(session, place, person), **changes)
        await session.commit()
    _print_person(changed, as_json)


@application.command()
@asynchronous
async def delete(
    person: WhichPerson,
    *,
    yes: Yes = False,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Erase a person with all faces."""
    from service.gallery.galleries import find_gallery
    from service.gallery.people import delete_person

    async with open_gallery(tenant, gallery) as (session, place):
        erased = await which_person(session, place, person)
        await session.rollback()  # hold no connection while the user decides
        confirm(f"Erase {erased.name!r} ({erased.id}) with {erased.faces} faces?", yes)
        await delete_person(session, await find_gallery(session, gallery), erased.id)
        await session.commit()
    if as_json:
        write_json({"deleted": erased.id})
        return
    write_line(f"{erased.name} ({erased.id}) is erased.")


@application.command()
@asynchronous
async def merge(
    person: WhichPerson,
    source: Annotated[
        str, typer.Option("--from", metavar="PERSON", help="The person to merge into PERSON; this person is erased.")
    ],
    *,
    yes: Yes = False,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Move all faces of one person to another person, then erase the first.

    PERSON keeps id, name, external id and metadata.
    """
    from service.gallery.faces import merge_people
    from service.gallery.galleries import find_gallery

    async with open_gallery(tenant, gallery) as (session, place):
        target = await which_person(session, place, person)
        merged = await which_person(session, place, source)
        await session.rollback()  # hold no connection while the user decides
        confirm(f"Move {merged.faces} faces of {merged.name!r} to {target.name!r} and erase {merged.name!r}?", yes)
        target = await merge_people(session, await find_gallery(session, gallery), merged, target)
        await session.commit()
    _print_person(target, as_json)


@application.command()
@asynchronous
async def faces(
    person: WhichPerson,
    *,
    limit: Limit = 100,
    cursor: Cursor = None,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """List a person's faces."""
    from service.gallery.faces import list_faces

    async with open_gallery(tenant, gallery) as (session, place):
        page = await list_faces(session, place, await which_person(session, place, person), limit, cursor)
    if as_json:
        from service.api.faces import FaceShape
        from service.api.shapes import page_of

        write_json(page_of(page, FaceShape.of))
        return
    rows = [(face.id, face.source, face.created_at) for face in page.items]
    write_table(["id", "image", "enrolled"], rows, "There are no faces.")
    tell_next_page(page)


@application.command()
@asynchronous
async def forget(
    person: WhichPerson,
    face: FaceId,
    *,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Erase one face of a person."""
    from service.gallery.faces import delete_face

    async with open_gallery(tenant, gallery) as (session, place):
        await delete_face(session, place, await which_person(session, place, person), face)
        await session.commit()
    if as_json:
        write_json({"deleted": face})
        return
    write_line(f"Face {face} is erased.")


@application.command("move-face")
@asynchronous
async def move(
    person: WhichPerson,
    face: FaceId,
    target: Annotated[str, typer.Option("--to", metavar="PERSON", help="The person who receives the face.")],
    *,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Move one face of a person to another person."""
    from service.gallery.faces import move_face
    from service.gallery.people import find_person

    async with open_gallery(tenant, gallery) as (session, place):
        receiver = await which_person(session, place, target)
        await move_face(session, place, await which_person(session, place, person), face, receiver)
        receiver = await find_person(session, place, receiver.id)
        await session.commit()
    _print_person(receiver, as_json)


@application.command()
@asynchronous
async def check(
    *,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """List people whose references are unlike each other, people of different names who look alike, and people whose
    names differ only in their spelling.

    The first have most likely images of somebody else; the others may be one person who was enrolled twice.
    """
    from service.identity.consistency import Consistency, check_people

    inconsistent: list[InconsistentPerson] = []
    same_names: list[SameName] = []
    look_alikes: dict[frozenset[str], LookAlikes] = {}
    async with open_gallery(tenant, gallery) as (session, place):
        with progress() as bar:
            task = bar.add_task("checking", total=place.people)
            cursor: str | None = None
            while True:
                page = await check_people(session, place, _CHECKED_PEOPLE, cursor)
                inconsistent += page.inconsistent
                same_names += page.same_names
                look_alikes |= {frozenset((pair.person.id, pair.other_id)): pair for pair in page.look_alikes}
                bar.advance(task, page.people)
                cursor = page.next_cursor
                if cursor is None:
                    break
    found = Consistency(place.people, inconsistent, list(look_alikes.values()), None, same_names)
    _print_check(place, found, as_json)


_CHECKED_PEOPLE = 100
"""People on one page of `check`."""


def _print_check(gallery: "Gallery", found: "Consistency", as_json: bool) -> None:
    if as_json:
        from service.api.checks import Check

        write_json(Check.of(found).model_dump(exclude={"next_cursor"}))
        return
    unlike = [(each.person.name, face.face_id, face.similarity) for each in found.inconsistent for face in each.unlike]
    empty = f"No person of gallery {gallery.name!r} has references that are unlike each other."
    write_table(["person", "face unlike the others", "similarity"], unlike, empty)
    pairs = [(pair.person.name, pair.other_name, pair.similarity) for pair in found.look_alikes]
    write_table(["person", "looks like", "similarity"], pairs, "No two people of different names look alike.")
    equal = [(pair.other.name, pair.other.id, pair.person.id) for pair in found.same_names]
    write_table(
        ["one name", "has the person", "and the person"], equal, "No two people have one name in two spellings."
    )
    if equal:
        remark("If both are one person: people merge PERSON --from PERSON, with the ids. Else rename one of them.")


_HEADINGS = ["id", "name", "external id", "faces", "created"]


def _row(person: "Person") -> list[object]:
    return [person.id, person.name, person.external_id, person.faces, person.created_at]


def _print_person(person: "Person", as_json: bool) -> None:

    if as_json:
        from service.api.people import PersonShape

        write_json(PersonShape.of(person))
        return
    metadata = json.dumps(person.metadata, ensure_ascii=False, sort_keys=True) if person.metadata else None
    write_table([*_HEADINGS, "metadata"], [[*_row(person), metadata]], "")
