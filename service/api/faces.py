"""Faces of a person: references made from images, or from embeddings that the caller made."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.convertors import StringConvertor, register_url_convertor

from service.api.people import PersonShape, find_other_person
from service.api.shapes import IMAGE_PROBLEMS, Cursor, FoundFace, Limit, List, Name, PersonId, RequestModel, page_of
from service.errors import (
    Conflict,
    DuplicateEmbedding,
    DuplicatePicture,
    EmbeddingSpaceMismatch,
    FaceBadlyLit,
    FaceBlurred,
    FaceTooSmall,
    FaceTurnedAway,
    FaceUncertain,
    ImageTooLarge,
    NearerToAnotherPerson,
    NoFaceFound,
    NotFound,
    NotLive,
    ServiceError,
    SeveralFaces,
    UnreadableImage,
    UnsupportedImageFormat,
)
from service.gallery.faces import Face, delete_face, list_faces, move_face
from service.gallery.galleries import find_gallery
from service.gallery.people import find_person
from service.http.callers import CurrentCaller, GalleryName, check_scope
from service.http.openapi import body_of_images, body_of_json, leads_to, problems
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession
from service.http.state import CurrentServerState, ServerState, request_encoders
from service.http.uploads import receive_images_or_reference
from service.identity.enroll import Enrollment, Rejection, enroll_embedding, enroll_pictures
from service.identity.named_person import NamedPerson, find_named_person
from service.identity.review import Review


class FaceId(StringConvertor):
    """The id of a face in a path, but not `embedding`: that path is the route for embeddings, which has only POST."""

    regex = "(?!embedding$)[^/]+"


register_url_convertor("face", FaceId())
router = keyed_router("/v1/galleries/{gallery}/people/{person}/faces", "faces")
of_gallery = keyed_router("/v1/galleries/{gallery}/faces", "faces")

MAXIMUM_PICTURES = 100
REJECTIONS: tuple[type[ServiceError], ...] = (
    *(UnreadableImage, UnsupportedImageFormat, ImageTooLarge),
    *(NoFaceFound, SeveralFaces),
    *(FaceTooSmall, FaceBlurred, FaceBadlyLit, FaceTurnedAway, FaceUncertain, NotLive),
    *(DuplicatePicture, NearerToAnotherPerson),
)
"""Reasons for which an image is not enrolled. If no image of a request is enrolled, the response is the first one."""
_FACE: dict[str, Any] = {
    "id": "0c4qyk3d9m2wa",
    "person": "0c4qyk3d9m2w8",
    "source": "ada.jpg",
    "detection": {
        "box": {"left": 10.0, "top": 12.5, "right": 90.0, "bottom": 110.0},
        "detection_score": 0.98,
        "quality": 0.71,
        "landmarks": [[35.0, 50.0], [65.0, 50.0], [50.0, 70.0], [38.0, 90.0], [62.0, 90.0]],
    },
    "created_at": "2026-01-31T08:30:00Z",
}
_REJECTION: dict[str, Any] = {"image": "group.jpg", "reason": "several-faces", "detail": "3 faces of similar size"}
_WARNING: dict[str, Any] = {
    "image": "eve.jpg",
    "reason": "unlike-other-references",
    "detail": "the face is unlike the person's other references; the threshold is 0.45",
}
_IMAGES = body_of_images("One or more images; each shows the person alone or largest.", most=MAXIMUM_PICTURES)
_EMBEDDING = body_of_json(
    {
        "type": "object",
        "required": ["embedding"],
        "additionalProperties": False,
        "properties": {
            "embedding": {"type": "array", "items": {"type": "number"}},
            "source": {"description": "Where the embedding comes from: any JSON value, up to 16 KiB."},
        },
        "examples": [{"embedding": [0.12, -0.03, 0.4], "source": "badge-17.jpg"}],
    }
)
_PERSON: dict[str, Any] = {
    "id": "0c4qyk3d9m2w8",
    "name": "Ada",
    "external_id": None,
    "metadata": {},
    "faces": 1,
    "created_at": "2026-01-31T08:30:00Z",
}
_NAMED: dict[str, Any] = {"faces": [_FACE], "rejected": [], "warnings": [], "person": _PERSON, "created": True}
_KNOWN = (DuplicatePicture, DuplicateEmbedding)
Several = Annotated[
    Literal["reject", "largest"],
    Query(description="What to do with an image of several faces of similar size."),
]


class FaceShape(BaseModel):
    """A reference of a person. Only an export returns its embedding."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FACE]})

    id: str
    person: str
    source: Any = Field(description="File name of the image, or the `source` sent with an embedding.")
    detection: FoundFace | None = Field(description="The face detected in the image; null for an embedding.")
    created_at: datetime

    @classmethod
    def of(cls, face: Face) -> "FaceShape":
        """Convert a face to a response."""
        return cls(
            id=face.id,
            person=face.person_id,
            source=face.source,
            detection=None if face.detection is None else FoundFace(**face.detection),
            created_at=face.created_at,
        )


class Move(RequestModel):
    """The person who receives the face."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"to": "0c4qyk3d9m2x4"}]})

    to: str = Field(description="Id of another person of the same gallery.")


class RejectionShape(BaseModel):
    """An image that was not enrolled, and the reason."""

    image: str
    reason: str = Field(
        description=f"The last part of a problem's `type`: {', '.join(kind.slug for kind in REJECTIONS)}."
    )
    detail: str


class WarningShape(BaseModel):
    """An image that was enrolled, but most likely by mistake, and the reason."""

    image: str
    reason: str = Field(description="The last part of a problem's `type`: `unlike-other-references`.")
    detail: str


class EnrollmentShape(BaseModel):
    """The references that were added, the images that were rejected, and warnings about the new references."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"faces": [_FACE], "rejected": [_REJECTION], "warnings": [_WARNING]}]}
    )

    faces: list[FaceShape]
    rejected: list[RejectionShape]
    warnings: list[WarningShape] = Field(description="New references that are unlike the person's other references.")

    @classmethod
    def of(cls, enrollment: Enrollment) -> "EnrollmentShape":
        """Convert an enrollment to a response. Raises the problem of the first image if nothing was enrolled."""
        if enrollment.rejected and not enrollment.faces:
            raise _refusal(enrollment)
        return cls(**_enrollment(enrollment))


class NamedEnrollmentShape(EnrollmentShape):
    """The same for a person who was given by name or external id."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NAMED]})

    person: PersonShape
    created: bool = Field(description="True if the request created the person.")

    @classmethod
    async def of_named(cls, session: AsyncSession, gallery: str, enrollment: Enrollment) -> "NamedEnrollmentShape":
        """Convert an enrollment to a response, with the person as stored now."""
        if enrollment.person is None:
            raise NotFound("the person was deleted")
        person = await find_person(session, await find_gallery(session, gallery), enrollment.person.id)
        return cls(**_enrollment(enrollment), person=PersonShape.of(person), created=enrollment.created_person)


_LINKS = leads_to(
    *("faces_erase", "faces_move"),
    gallery="request.path.gallery",
    person="request.path.person",
    face="response.body#/faces/0/id",
)


@router.post(
    "/embedding",
    status_code=201,
    name="add_embedding",
    description="Add an embedding as a reference to a person. The route that adds images takes this body, too.",
    responses=problems(*IMAGE_PROBLEMS, Conflict, DuplicateEmbedding, EmbeddingSpaceMismatch, *REJECTIONS) | _LINKS,
    openapi_extra=_EMBEDDING,
)
@router.post(
    "",
    status_code=201,
    responses=problems(*IMAGE_PROBLEMS, Conflict, DuplicateEmbedding, EmbeddingSpaceMismatch, *REJECTIONS) | _LINKS,
    openapi_extra=_IMAGES,
)
@needs("enroll", runs_model=True)
async def add(
    *,
    request: Request,
    gallery: GalleryName,
    person: PersonId,
    session: RequestSession,
    state: CurrentServerState,
    several: Several = "reject",
) -> EnrollmentShape:
    """Add references to a person. The next search finds them; `rejected` lists the images that cannot be used.

    If no image can be used, nothing is added and the response is the problem of the first image.
    """
    return EnrollmentShape.of(await _enroll(request, session, state, gallery, owner=person, several=several))


_REPEATED: dict[int | str, dict[str, Any]] = {
    200: {"model": NamedEnrollmentShape, "description": "Everything sent was enrolled before."}
}
_ENROLLED = _REPEATED | leads_to(
    *("people_show", "people_erase", "faces_list_all", "recognition_verify"),
    gallery="request.path.gallery",
    person="response.body#/person/id",
)


@of_gallery.post(
    "/embedding",
    status_code=201,
    name="enroll_embedding",
    description="Add an embedding as a reference to a person who is given by name or external id, and create the "
    "person if missing. At least one of `person` and `external_id` is required. The route that enrolls images takes "
    "this body, too.",
    responses=problems(*IMAGE_PROBLEMS, Conflict, EmbeddingSpaceMismatch, *REJECTIONS) | _ENROLLED,
    openapi_extra=_EMBEDDING,
)
@of_gallery.post(
    "",
    status_code=201,
    responses=problems(*IMAGE_PROBLEMS, Conflict, EmbeddingSpaceMismatch, *REJECTIONS) | _ENROLLED,
    openapi_extra=_IMAGES,
)
@needs("enroll", runs_model=True)
async def enroll(
    *,
    request: Request,
    response: Response,
    gallery: GalleryName,
    session: RequestSession,
    state: CurrentServerState,
    person: Annotated[Name | None, Query(description="The person's name.", examples=["Ada"])] = None,
    external_id: Annotated[
        Name | None, Query(description="The person's external id, which decides if several people have one name.")
    ] = None,
    several: Several = "reject",
) -> NamedEnrollmentShape:
    """Add references to a person who is given by name or external id, and create the person if missing.

    At least one of `person` and `external_id` is required. A new person without a name gets the external id as its
    name. The request may be repeated: an image that is a reference of the person already is listed under `rejected` as
    `duplicate-picture`, and if nothing new was sent the status is 200.
    """
    named = NamedPerson(person, external_id)
    try:
        enrollment = await _enroll(request, session, state, gallery, owner=named, several=several)
    except DuplicateEmbedding as error:
        rejected = [Rejection("the embedding", DuplicateEmbedding, error.detail)]
        found = await find_named_person(session, await find_gallery(session, gallery), named)
        enrollment = Enrollment([], rejected, person=found)
    if not enrollment.faces and any(one.kind in _KNOWN for one in enrollment.rejected):
        response.status_code = 200
    elif not enrollment.faces:
        raise _refusal(enrollment)
    return await NamedEnrollmentShape.of_named(session, gallery, enrollment)


async def _enroll(
    request: Request,
    session: AsyncSession,
    state: ServerState,
    gallery: str,
    *,
    owner: str | NamedPerson,
    several: Several,
) -> Enrollment:
    received = await receive_images_or_reference(request, most=MAXIMUM_PICTURES)
    if isinstance(received, list):
        encoders, review = request_encoders(request), Review.of(state.settings)
        return await enroll_pictures(session, encoders, gallery, owner, received, several=several, review=review)
    return await enroll_embedding(session, gallery, owner, received.embedding or [], received.source)


@router.get("")
@needs("read")
async def list_all(
    gallery: GalleryName, person: PersonId, session: RequestSession, limit: Limit = 100, cursor: Cursor = None
) -> List[FaceShape]:
    """List the references of a person, oldest first."""
    found_gallery = await find_gallery(session, gallery)
    owner = await find_person(session, found_gallery, person)
    return page_of(await list_faces(session, found_gallery, owner, limit, cursor), FaceShape.of)


@router.delete("/{face:face}", status_code=204)
@needs("erase")
async def erase(gallery: GalleryName, person: PersonId, face: str, session: RequestSession) -> Response:
    """Erase one reference. The next search does not find it."""
    found_gallery = await find_gallery(session, gallery)
    await delete_face(session, found_gallery, await find_person(session, found_gallery, person), face)
    return Response(status_code=204)


@router.post("/{face}/move")
@needs("enroll")
async def move(
    *, gallery: GalleryName, person: PersonId, face: str, move: Move, session: RequestSession, caller: CurrentCaller
) -> PersonShape:
    """Move one reference to another person of the gallery, and return the person who receives it.

    The key also needs the scope `erase`, because the person of the path loses the reference.
    """
    check_scope(caller, "erase")
    found_gallery = await find_gallery(session, gallery)
    source = await find_person(session, found_gallery, person)
    target = await find_other_person(session, found_gallery, source, move.to, "to")
    await move_face(session, found_gallery, source, face, target)
    return PersonShape.of(await find_person(session, found_gallery, target.id))


def _enrollment(enrollment: Enrollment) -> dict[str, Any]:
    return {
        "faces": [FaceShape.of(face) for face in enrollment.faces],
        "rejected": _rejections(enrollment),
        "warnings": [
            WarningShape(image=each.image, reason=each.reason, detail=each.detail) for each in enrollment.warnings
        ],
    }


def _rejections(enrollment: Enrollment) -> list[RejectionShape]:
    return [RejectionShape(image=each.image, reason=each.reason, detail=each.detail) for each in enrollment.rejected]


def _refusal(enrollment: Enrollment) -> ServiceError:
    """The problem of the first image, with the reasons of all."""
    first = enrollment.rejected[0]
    rejected = [each.model_dump() for each in _rejections(enrollment)]
    return first.kind(f"{first.image}: {first.detail}", rejected=rejected)
