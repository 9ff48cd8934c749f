"""People of a gallery. Paths hold their ids; names are data and may hold any printable character."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from service.api.shapes import Cursor, Kept, Limit, List, MetadataFilter, Name, PersonId, RequestModel, page_of
from service.errors import Conflict, InvalidRequest, NotFound
from service.gallery.content import UNSET
from service.gallery.faces import merge_people
from service.gallery.galleries import Gallery, find_gallery
from service.gallery.people import Person, create_person, delete_person, find_person, list_people, update_person
from service.http.callers import CurrentCaller, GalleryName, check_scope
from service.http.openapi import leads_to, problems
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession

router = keyed_router("/v1/galleries/{gallery}/people", "people")

_EXAMPLE: dict[str, Any] = {
    "id": "0c4qyk3d9m2w8",
    "name": "Ada",
    "external_id": "employee-17",
    "metadata": {"floor": 3},
    "faces": 2,
    "created_at": "2026-01-31T08:30:00Z",
}


class NewPerson(RequestModel):
    """A new person, without faces; `POST .../faces` adds them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Ada", "external_id": "employee-17"}]})

    name: Name
    external_id: Name | None = Field(default=None, description="The person's id in your system; unique in the gallery.")
    metadata: dict[str, Any] | None = Field(default=None, description="A JSON object of your own, up to 16 KiB.")


class PersonChange(RequestModel):
    """The fields to change; omitted fields keep their value."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Ada Lovelace"}]})

    name: Kept[Name] = None
    external_id: Name | None = Field(default=None, description="Null removes the external id.")
    metadata: dict[str, Any] | None = Field(default=None, description="Replaces the whole object; null empties it.")


class Merge(RequestModel):
    """The person whose faces are merged into the person of the path."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"from": "0c4qyk3d9m2x4"}]})

    source: str = Field(alias="from", description="Id of the person to merge; this person is erased.")


class PersonShape(BaseModel):
    """A person of a gallery."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    name: str
    external_id: str | None
    metadata: dict[str, Any]
    faces: int = Field(description="Number of references.")
    created_at: datetime

    @classmethod
    def of(cls, person: Person) -> "PersonShape":
        """Convert a person to a response."""
        return cls(
            id=person.id,
            name=person.name,
            external_id=person.external_id,
            metadata=person.metadata,
            faces=person.faces,
            created_at=person.created_at,
        )


@router.post(
    "",
    status_code=201,
    responses=problems(Conflict)
    | leads_to(
        *("people_show", "people_change", "people_erase", "people_merge"),
        *("faces_add", "faces_list_all", "recognition_verify"),
        gallery="request.path.gallery",
        person="response.body#/id",
    ),
)
@needs("enroll")
async def create(gallery: GalleryName, new: NewPerson, session: RequestSession) -> PersonShape:
    """Create a person. People of one gallery may share a name only if their external ids differ."""
    found_gallery = await find_gallery(session, gallery)
    return PersonShape.of(await create_person(session, found_gallery, new.name, new.external_id, new.metadata))


@router.get("")
@needs("read")
async def list_all(
    *,
    gallery: GalleryName,
    session: RequestSession,
    limit: Limit = 100,
    cursor: Cursor = None,
    name: Annotated[Name | None, Query(description="Only people with exactly this name.")] = None,
    external_id: Annotated[Name | None, Query(description="Only the person with this external id.")] = None,
    metadata: MetadataFilter = None,
) -> List[PersonShape]:
    """List the people of a gallery in the order of their creation."""
    found_gallery = await find_gallery(session, gallery)
    page = await list_people(
        session, found_gallery, limit, cursor, name=name, external_id=external_id, metadata=metadata
    )
    return page_of(page, PersonShape.of)


@router.get("/{person}")
@needs("read")
async def show(gallery: GalleryName, person: PersonId, session: RequestSession) -> PersonShape:
    """Return one person."""
    return PersonShape.of(await find_person(session, await find_gallery(session, gallery), person))


@router.patch("/{person}", responses=problems(Conflict))
@needs("enroll")
async def change(gallery: GalleryName, person: PersonId, changes: PersonChange, session: RequestSession) -> PersonShape:
    """Change the name, external id or metadata of a person."""
    found_gallery = await find_gallery(session, gallery)
    changed = await find_person(session, found_gallery, person)
    values = {field: getattr(changes, field, UNSET) for field in changes.model_fields_set}
    if "metadata" in values:
        values["metadata"] = values["metadata"] or {}
    return PersonShape.of(await update_person(session, found_gallery, changed, **values))


@router.post("/{person}/merge")
@needs("enroll")
async def merge(
    *, gallery: GalleryName, person: PersonId, merge: Merge, session: RequestSession, caller: CurrentCaller
) -> PersonShape:
    """Move all faces of another person to this person, then erase the other person.

    This person keeps its id, name, external id and metadata. The key also needs the scope `erase`.
    """
    check_scope(caller, "erase")
    found_gallery = await find_gallery(session, gallery)
    target = await find_person(session, found_gallery, person)
    source = await find_other_person(session, found_gallery, target, merge.source, "from")
    return PersonShape.of(await merge_people(session, found_gallery, source, target))


async def find_other_person(session: AsyncSession, gallery: Gallery, person: Person, other: str, field: str) -> Person:
    """The person named in `field` of a body. Raises InvalidRequest if it is `person`, NotFound if it does not exist."""
    try:
        found = await find_person(session, gallery, other)
    except NotFound as error:
        raise NotFound(f"{field}: {error.detail}") from None
    if found.id == person.id:
        raise InvalidRequest(f"{field}: name another person than the person of the path")
    return found


@router.delete("/{person}", status_code=204)
@needs("erase")
async def erase(gallery: GalleryName, person: PersonId, session: RequestSession) -> Response:
    """Erase a person with all faces. The next search does not find them."""
    await delete_person(session, await find_gallery(session, gallery), person)
    return Response(status_code=204)
