"""People of a gallery. Their ids stand in paths; names are data and may be anything printable."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.shapes import Cursor, Kept, Limit, List, Name, RequestModel, page_of
from service.errors import Conflict
from service.gallery.changes import UNSET
from service.gallery.galleries import find_gallery
from service.gallery.people import Person, create_person, delete_person, find_person, list_people, update_person
from service.http.callers import GalleryName
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
    """A person to be enrolled; faces come afterwards."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Ada", "external_id": "employee-17"}]})

    name: Name
    external_id: Name | None = Field(default=None, description="Your own id; unique in the gallery.")
    metadata: dict[str, Any] | None = Field(default=None, description="Anything of yours, up to 16 KiB of JSON.")


class PersonChange(RequestModel):
    """What is to be changed; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Ada Lovelace"}]})

    name: Kept[Name] = None
    external_id: Name | None = Field(default=None, description="Null: none any more.")
    metadata: dict[str, Any] | None = Field(default=None, description="Takes the place of all there is; null: none.")


class PersonShape(BaseModel):
    """A person of a gallery."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    name: str
    external_id: str | None
    metadata: dict[str, Any]
    faces: int = Field(description="How many references there are.")
    created_at: datetime

    @classmethod
    def of(cls, person: Person) -> "PersonShape":
        """The person as it is answered."""
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
        *("people_show", "people_change", "people_erase", "faces_add", "faces_list_all", "recognition_verify"),
        gallery="request.path.gallery",
        person="response.body#/id",
    ),
)
@needs("enroll")
async def create(gallery: GalleryName, new: NewPerson, session: RequestSession) -> PersonShape:
    """Add a person. A name is taken once in a gallery, unless external ids tell people of one name apart."""
    found = await find_gallery(session, gallery)
    return PersonShape.of(await create_person(session, found, new.name, new.external_id, new.metadata))


@router.get("")
@needs("read")
async def list_all(
    *,
    gallery: GalleryName,
    session: RequestSession,
    limit: Limit = 100,
    cursor: Cursor = None,
    name: Annotated[Name | None, Query(description="Only people of exactly this name.")] = None,
    external_id: Annotated[Name | None, Query(description="Only the person of this external id.")] = None,
) -> List[PersonShape]:
    """The people of a gallery."""
    found = await find_gallery(session, gallery)
    page = await list_people(session, found, limit, cursor, name=name, external_id=external_id)
    return page_of(page, PersonShape.of)


@router.get("/{person}")
@needs("read")
async def show(gallery: GalleryName, person: str, session: RequestSession) -> PersonShape:
    """One person."""
    return PersonShape.of(await find_person(session, await find_gallery(session, gallery), person))


@router.patch("/{person}", responses=problems(Conflict))
@needs("enroll")
async def change(gallery: GalleryName, person: str, changes: PersonChange, session: RequestSession) -> PersonShape:
    """Change name, external id or metadata."""
    place = await find_gallery(session, gallery)
    found = await find_person(session, place, person)
    given = {field: getattr(changes, field, UNSET) for field in changes.model_fields_set}
    if "metadata" in given:
        given["metadata"] = given["metadata"] or {}
    return PersonShape.of(await update_person(session, place, found, **given))


@router.delete("/{person}", status_code=204)
@needs("erase")
async def erase(gallery: GalleryName, person: str, session: RequestSession) -> Response:
    """Erase a person with every face: the next search does not find it."""
    await delete_person(session, await find_gallery(session, gallery), person)
    return Response(status_code=204)
