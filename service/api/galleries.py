"""Galleries: each holds people of one embedding space, under a name that is its place in every path."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from service.api.shapes import Cursor, GalleryNaming, Kept, Limit, List, RequestModel, page_of
from service.errors import Conflict, EncoderUnavailable, Forbidden
from service.gallery.content import UNSET
from service.gallery.galleries import (
    Gallery,
    create_gallery,
    delete_gallery,
    find_gallery,
    gallery_counts,
    list_galleries,
    update_gallery,
)
from service.http.callers import CurrentCaller, GalleryName, check_scope
from service.http.openapi import leads_to, problems
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession
from service.http.state import CurrentServerState
from service.identity.spaces import resolve_space

router = keyed_router("/v1/galleries", "galleries")

OwnThreshold = Annotated[float, Field(ge=0, le=1, strict=True)]
_EXAMPLE: dict[str, Any] = {
    "name": "staff",
    "embedding_space": "dlib",
    "dimension": 128,
    "metric": "euclidean",
    "threshold": 0.4,
    "own_threshold": None,
    "verification_only": False,
    "created_at": "2026-01-31T08:30:00Z",
}


class NewGallery(RequestModel):
    """A gallery to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "staff"}]})

    name: GalleryNaming
    embedding_space: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="An encoder as in ENCODER (default: the first), or external:LABEL:DIMENSION for embeddings made "
        "elsewhere.",
    )
    threshold: OwnThreshold | None = Field(default=None, description="Null: the embedding space's own.")
    verification_only: StrictBool = Field(default=False, description="True: nobody is identified (1:N) in it.")


class GalleryChange(RequestModel):
    """What is to be changed; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"threshold": 0.5}]})

    name: Kept[GalleryNaming] = None
    threshold: OwnThreshold | None = Field(default=None, description="Null: back to the embedding space's own.")
    verification_only: Kept[StrictBool] = Field(
        default=None, description="Whether nobody is identified (1:N) in it; changing it needs the scope admin."
    )


class GalleryShape(BaseModel):
    """A gallery."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: str
    embedding_space: str
    dimension: int
    metric: str
    threshold: float = Field(description="Similarity of 0..1 from which two faces count as the same person.")
    own_threshold: float | None = Field(description="The gallery's own threshold; null: the embedding space's.")
    verification_only: bool = Field(description="Whether nobody is identified (1:N) in it.")
    created_at: datetime

    @classmethod
    def of(cls, gallery: Gallery) -> "GalleryShape":
        """The gallery as it is answered."""
        return cls(
            name=gallery.name,
            embedding_space=gallery.space.name,
            dimension=gallery.space.dimension,
            metric=gallery.space.metric,
            threshold=gallery.threshold,
            own_threshold=gallery.own_threshold,
            verification_only=gallery.verification_only,
            created_at=gallery.created_at,
        )


class CountedGallery(GalleryShape):
    """A gallery and how much is in it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE | {"people": 2, "faces": 7}]})

    people: int
    faces: int


@router.post(
    "",
    status_code=201,
    responses=problems(Conflict, EncoderUnavailable)
    | leads_to(
        *("galleries_show", "galleries_change", "galleries_erase", "people_create", "people_list_all"),
        *("recognition_recognize", "datasets_import_dataset", "datasets_export"),
        gallery="response.body#/name",
    ),
)
@needs("enroll")
async def create(
    new: NewGallery, session: RequestSession, service: CurrentServerState, caller: CurrentCaller
) -> GalleryShape:
    """Make a gallery."""
    if caller.galleries is not None and new.name not in caller.galleries:
        raise Forbidden("this key is limited to galleries with other names")
    space = resolve_space(service.encoders, new.embedding_space)
    return GalleryShape.of(
        await create_gallery(session, new.name, space, new.threshold, verification_only=new.verification_only)
    )


@router.get("")
@needs("read")
async def list_all(
    session: RequestSession, caller: CurrentCaller, limit: Limit = 100, cursor: Cursor = None
) -> List[GalleryShape]:
    """The galleries in the order they were made; only those that the key may touch."""
    return page_of(await list_galleries(session, limit, cursor, names=caller.galleries), GalleryShape.of)


@router.get("/{gallery}")
@needs("read")
async def show(name: GalleryName, session: RequestSession) -> CountedGallery:
    """One gallery with the number of its people and faces."""
    gallery = await find_gallery(session, name)
    counts = await gallery_counts(session, gallery)
    return CountedGallery(**GalleryShape.of(gallery).model_dump(), people=counts.people, faces=counts.faces)


@router.patch("/{gallery}", responses=problems(Conflict))
@needs("enroll")
async def change(
    name: GalleryName, changes: GalleryChange, session: RequestSession, caller: CurrentCaller
) -> GalleryShape:
    """Rename a gallery or set its threshold; null gives it back the embedding space's own."""
    if changes.name is not None and caller.galleries is not None and changes.name not in caller.galleries:
        raise Forbidden("this key is limited to galleries with other names")
    if changes.verification_only is not None:
        check_scope(caller, "admin")
    threshold = changes.threshold if "threshold" in changes.model_fields_set else UNSET
    gallery = await find_gallery(session, name)
    changed = await update_gallery(
        session, gallery, name=changes.name, threshold=threshold, verification_only=changes.verification_only
    )
    return GalleryShape.of(changed)


@router.delete("/{gallery}", status_code=204)
@needs("erase")
async def erase(name: GalleryName, session: RequestSession) -> Response:
    """Erase a gallery with everyone in it."""
    await delete_gallery(session, await find_gallery(session, name))
    return Response(status_code=204)
