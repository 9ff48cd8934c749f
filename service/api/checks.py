"""Consistency of a gallery: unlike references of one person, people who look alike, and people of equal names."""

from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from service.access.names import PROBE
from service.api.shapes import Cursor, Limit, Similarity
from service.database.session import release_connection
from service.errors import Forbidden
from service.gallery.galleries import find_gallery
from service.gallery.people import Person
from service.http.callers import CurrentCaller, GalleryName, charging_searches, check_scope
from service.http.openapi import problems
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession
from service.identity.consistency import Consistency, InconsistentPerson, LookAlikes, SameName, check_people
from service.identity.disclosure import disclosed_consistency

router = keyed_router("/v1/galleries/{gallery}/check", "checks")

_ADA: dict[str, Any] = {"id": "0c4qyk3d9m2w8", "name": "Ada Lovelace", "external_id": "badge-17"}
_EVE: dict[str, Any] = {"id": "0c4qyk3d9m2x4", "name": "Eve", "external_id": None}
_EXAMPLE: dict[str, Any] = {
    "people": 100,
    "inconsistent": [{"person": _ADA, "unlike": [{"face": "0c4qyk3d9m2wa", "similarity": 0.12}]}],
    "look_alikes": [{"person": _ADA, "other": _EVE, "similarity": 0.58}],
    "same_names": [],
    "next_cursor": None,
}


class CheckedPerson(BaseModel):
    """The names of a person."""

    id: str
    name: str
    external_id: str | None

    @classmethod
    def of(cls, person: Person) -> "CheckedPerson":
        """Convert a person to a response."""
        return cls(id=person.id, name=person.name, external_id=person.external_id)


class UnlikeFace(BaseModel):
    """A reference that is unlike the person's other references."""

    face: str
    similarity: Similarity | None = Field(
        description="Similarity to the nearest of the person's other references, 0 to 1; null without the scope "
        "`probe`."
    )


class Inconsistent(BaseModel):
    """A person with references that are unlike each other: somebody else's images, or bad ones."""

    person: CheckedPerson
    unlike: list[UnlikeFace]

    @classmethod
    def of(cls, found: InconsistentPerson) -> "Inconsistent":
        """Convert a finding to a response."""
        unlike = [UnlikeFace(face=each.face_id, similarity=each.similarity) for each in found.unlike]
        return cls(person=CheckedPerson.of(found.person), unlike=unlike)


class LookAlike(BaseModel):
    """Two people of different names whose references match."""

    person: CheckedPerson
    other: CheckedPerson
    similarity: Similarity

    @classmethod
    def of(cls, found: LookAlikes) -> "LookAlike":
        """Convert a finding to a response."""
        other = CheckedPerson(id=found.other_id, name=found.other_name, external_id=found.other_external_id)
        return cls(person=CheckedPerson.of(found.person), other=other, similarity=found.similarity)


class SameNameShape(BaseModel):
    """Two people whose names or external ids differ only in their Unicode spelling or in blanks at their ends."""

    person: CheckedPerson
    other: CheckedPerson

    @classmethod
    def of(cls, found: SameName) -> "SameNameShape":
        """Convert a finding to a response."""
        return cls(person=CheckedPerson.of(found.person), other=CheckedPerson.of(found.other))


class Check(BaseModel):
    """The findings about one page of people. `next_cursor` is null on the last page."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    people: int = Field(description="Number of people checked on this page.")
    inconsistent: list[Inconsistent]
    look_alikes: list[LookAlike] = Field(description="A pair is listed with each of its two people.")
    same_names: list[SameNameShape] = Field(
        description="Only people from before names were stored canonically: merge the two, or rename one."
    )
    next_cursor: str | None

    @classmethod
    def of(cls, found: Consistency) -> "Check":
        """Convert the findings to a response."""
        return cls(
            people=found.people,
            inconsistent=[Inconsistent.of(each) for each in found.inconsistent],
            look_alikes=[LookAlike.of(each) for each in found.look_alikes],
            same_names=[SameNameShape.of(each) for each in found.same_names],
            next_cursor=found.next_cursor,
        )


@router.get("", responses=problems(Forbidden))
@needs("read")
async def check(
    *,
    request: Request,
    gallery: GalleryName,
    session: RequestSession,
    caller: CurrentCaller,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Check:
    """Find references that are unlike the person's other references, and people of different names who look alike.

    Checks `limit` people, in the order of their creation, against the whole gallery. The key also needs the scope
    `recognize`, because looking for similar people is identification.
    """
    check_scope(caller, "recognize")
    found_gallery = await find_gallery(session, gallery)
    charge = charging_searches(request)

    async def charge_units(units: int) -> None:
        await release_connection(session)  # a request holds one connection at a time
        await charge(units)

    found = await check_people(session, found_gallery, limit, cursor, charge=charge_units)
    return Check.of(found if PROBE in caller.scopes else disclosed_consistency(found))
