"""Galleries: each belongs to one embedding space and has a name that is used in paths."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from service.access.authentication import Caller
from service.access.names import PROBE
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
    "threshold": 0.45,
    "own_threshold": None,
    "verification_only": False,
    "created_at": "2026-01-31T08:30:00Z",
}


class NewGallery(RequestModel):
    """A new gallery."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "staff"}]})

    name: GalleryNaming
    embedding_space: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,
        description="An encoder as in ENCODER (default: the first one), or external:LABEL:DIMENSION for embeddings "
        "made elsewhere.",
    )
    threshold: OwnThreshold | None = Field(default=None, description="Null: the threshold of the embedding space.")
    verification_only: StrictBool = Field(
        default=False, description="True forbids identification (1:N); verification (1:1) stays allowed."
    )


class GalleryChange(RequestModel):
    """The fields to change; omitted fields keep their value."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"threshold": 0.5}]})

    name: Kept[GalleryNaming] = None
    threshold: OwnThreshold | None = Field(
        default=None, description="Null: the threshold of the embedding space again."
    )
    verification_only: Kept[StrictBool] = Field(
        default=None, description="True forbids identification (1:N). The change needs the scope `admin`."
    )


class GalleryShape(BaseModel):
    """A gallery."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: str
    embedding_space: str
    dimension: int
    metric: str
    threshold: float = Field(description="Similarity, 0..1, from which two faces match.")
    own_threshold: float | None = Field(description="The gallery's own threshold; null: the embedding space's is used.")
    verification_only: bool = Field(description="True if identification (1:N) is forbidden.")
    created_at: datetime

    @classmethod
    def of(cls, gallery: Gallery) -> "GalleryShape":
        """Convert a gallery to a response."""
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
    """A gallery with the number of its people and faces."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE | {"people": 2, "faces": 7}]})

    people: int
    faces: int

    @classmethod
    def of_counted(cls, gallery: Gallery) -> "CountedGallery":
        """Convert a gallery to a response, with the counters of its lookup."""
        return cls(**GalleryShape.of(gallery).model_dump(), people=gallery.people, faces=gallery.faces)


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
    new: NewGallery, session: RequestSession, state: CurrentServerState, caller: CurrentCaller
) -> GalleryShape:
    """Create a gallery."""
    if caller.galleries is not None and new.name not in caller.galleries:
        raise Forbidden("this key may not use a gallery of that name")
    space = resolve_space(state.encoders, new.embedding_space)
    return GalleryShape.of(
        await create_gallery(session, new.name, space, new.threshold, verification_only=new.verification_only)
    )


@router.get("")
@needs("read")
async def list_all(
    session: RequestSession, caller: CurrentCaller, limit: Limit = 100, cursor: Cursor = None
) -> List[GalleryShape]:
    """List the galleries that the key may use, in the order of their creation."""
    return page_of(await list_galleries(session, limit, cursor, names=caller.galleries), GalleryShape.of)


@router.get("/{gallery}")
@needs("read")
async def show(name: GalleryName, session: RequestSession) -> CountedGallery:
    """Return one gallery with the number of its people and faces."""
    gallery = await find_gallery(session, name)
    counts = await gallery_counts(session, gallery)
    return CountedGallery(**GalleryShape.of(gallery).model_dump(), people=counts.people, faces=counts.faces)


@router.patch("/{gallery}", responses=problems(Conflict))
@needs("enroll")
async def change(
    name: GalleryName, changes: GalleryChange, session: RequestSession, caller: CurrentCaller
) -> GalleryShape:
    """Rename a gallery, set or reset its threshold, or forbid identification in it."""
    if changes.name is not None and caller.galleries is not None and changes.name not in caller.galleries:
        raise Forbidden("this key may not use a gallery of that name")
    if changes.verification_only is not None:
        check_scope(caller, "admin")
    threshold = changes.threshold if "threshold" in changes.model_fields_set else UNSET
    gallery = await find_gallery(session, name)
    if threshold is not UNSET:
        _check_lower_threshold(caller, gallery, changes.threshold)
    changed = await update_gallery(
        session, gallery, name=changes.name, threshold=threshold, verification_only=changes.verification_only
    )
    return GalleryShape.of(changed)


def _check_lower_threshold(caller: Caller, gallery: Gallery, threshold: float | None) -> None:
    """Raises Forbidden if the caller may not see what a lower threshold discloses: similarities below this one."""
    new = gallery.space.threshold if threshold is None else threshold
    if new < gallery.threshold and not caller.scopes & {"export", PROBE}:
        raise Forbidden("to lower a threshold, a key needs the scope 'probe' or 'export'", scope=PROBE)


@router.delete("/{gallery}", status_code=204)
@needs("erase")
async def erase(name: GalleryName, session: RequestSession) -> Response:
    """Erase a gallery with all its people and faces."""
    await delete_gallery(session, await find_gallery(session, name))
    return Response(status_code=204)
