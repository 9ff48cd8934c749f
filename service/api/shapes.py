"""Models and parameters that several resources of `/v1` share. Requests forbid unknown fields."""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Depends, Path, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from service.access.names import MAXIMUM_NAME_LENGTH as MAXIMUM_PRINTABLE_LENGTH
from service.database.pagination import Page
from service.embedding import shown_similarity
from service.encoder.contract import Box, DetectedFace
from service.errors import (
    DatabaseUnavailable,
    EncoderUnavailable,
    InvalidRequest,
    OutOfMemory,
    Overloaded,
    PayloadTooLarge,
    ServiceError,
    UnreadableImage,
    UnstorableJson,
    UnsupportedImageFormat,
    UnsupportedMediaType,
)
from service.gallery.content import (
    MAXIMUM_GALLERY_NAME_LENGTH,
    MAXIMUM_METADATA_BYTES,
    MAXIMUM_NAME_LENGTH,
    check_metadata,
)
from service.http.bodies import as_plain
from service.identity.limits import MAXIMUM_MEAN_OF

Item = TypeVar("Item")
Row = TypeVar("Row")

IMAGE_PROBLEMS: tuple[type[ServiceError], ...] = (
    PayloadTooLarge,
    UnsupportedMediaType,
    UnsupportedImageFormat,
    UnreadableImage,
    EncoderUnavailable,
    Overloaded,
    OutOfMemory,
    DatabaseUnavailable,
)
"""Problems of every route that takes images."""

PersonId = Annotated[str, Path(description="The id of a person, or `external:` and the external id.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items per page.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the previous page.")]
Candidates = Annotated[int, Query(alias="limit", ge=1, le=100, description="Candidates per face, most similar first.")]
Include = Annotated[
    list[Literal["metadata"]],
    Query(max_length=1, description="`metadata`: the answer holds the metadata of each person, too."),
]
Threshold = Annotated[
    float | None,
    Query(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Similarity required for a match. Default: the threshold of the gallery or embedding space.",
    ),
]
MeanOf = Annotated[
    int,
    Query(
        ge=1,
        le=MAXIMUM_MEAN_OF,
        description="A person's similarity is the mean of this many nearest references, or of all if there are fewer.",
    ),
]
EncoderName = Annotated[
    str | None,
    Query(max_length=500, description="An encoder of this server, named as in ENCODER. Default: the first one."),
]


async def read_metadata_filter(
    metadata: Annotated[
        str | None,
        Query(
            max_length=MAXIMUM_METADATA_BYTES,
            description="A JSON object: only people whose metadata contains it, compared as PostgreSQL's `@>` does.",
            examples=['{"tags": ["vip"]}'],
        ),
    ] = None,
) -> dict[str, Any] | None:
    """The metadata filter of the query. Raises UnstorableJson if it is not a JSON object that can be stored."""
    if metadata is None:
        return None
    try:
        return check_metadata(as_plain(metadata.encode()))
    except InvalidRequest as error:
        reason = error.detail.removeprefix("metadata: ")
        errors = [{"field": "query.metadata", "reason": reason}]
        raise UnstorableJson(f"query.metadata: {reason}", errors=errors) from None


MetadataFilter = Annotated[dict[str, Any] | None, Depends(read_metadata_filter)]


def _not_null(value: Item) -> Item:
    if value is None:
        raise PydanticCustomError("null", "null is not allowed; leave the field out to keep its value")
    return value


Kept = Annotated[Item | SkipJsonSchema[None], AfterValidator(_not_null)]
"""A field of a change request. The default None means "left out": the value stays. A client may not send null."""


def _number(value: Any) -> Any:
    """Accept 7 and 7.0, which are the same number in JSON, but neither "7" nor true."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("number", "an integer is required")
    return value


WHOLE = BeforeValidator(_number)
"""Annotates an integer in a request body, after its bounds."""


def _format(name: str, longest: int) -> dict[str, JsonValue]:
    """The schema of a name. It only documents: the room that stores the name checks it and words the error."""
    return {"format": name, "minLength": 1, "maxLength": longest}


Name = Annotated[str, Field(json_schema_extra=_format("name", MAXIMUM_NAME_LENGTH))]
"""The name of a person: not blank, no control characters."""
GalleryNaming = Annotated[str, Field(json_schema_extra=_format("gallery-name", MAXIMUM_GALLERY_NAME_LENGTH))]
"""The name of a gallery: a name without a slash, and neither `.` nor `..`."""
TenantNaming = Annotated[str, Field(json_schema_extra=_format("tenant-name", MAXIMUM_PRINTABLE_LENGTH))]
"""The name of a tenant: printable characters, not blank, without a slash, and neither `.` nor `..`."""
ShortName = Annotated[str, Field(json_schema_extra=_format("printable-name", MAXIMUM_PRINTABLE_LENGTH))]
"""The name of an API key: printable characters, not blank."""


Similarity = Annotated[float, AfterValidator(shown_similarity)]
"""A similarity in a response."""


class RequestModel(BaseModel):
    """A request body. An unknown field is an error, so that a misspelled field is never ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class List(BaseModel, Generic[Item]):
    """One page of a list. `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None


def page_of(page: Page[Row], shape: Callable[[Row], Item]) -> List[Item]:
    """Convert a page of rows to a response."""
    return List(items=[shape(item) for item in page.items], next_cursor=page.next_cursor)


class PersonReference(BaseModel):
    """The person of an answer. The external id tells people of one name apart."""

    id: str
    name: str
    external_id: str | None
    metadata: dict[str, Any] | None = Field(
        default=None,
        exclude_if=lambda metadata: metadata is None,
        description="The person's metadata; only with `?include=metadata`.",
    )


class BoxShape(BaseModel):
    """The rectangle around a face, in pixels of the upright image."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, box: Box) -> "BoxShape":
        """Round the box to a hundredth of a pixel."""
        return cls(
            left=round(box.left, 2), top=round(box.top, 2), right=round(box.right, 2), bottom=round(box.bottom, 2)
        )


class FoundFace(BaseModel):
    """One face detected in an image."""

    box: BoxShape
    detection_score: float = Field(description="The detector's confidence, on its own scale; higher is surer.")
    quality: float = Field(description="0..1: a heuristic of sharpness, size and pose, not ISO/IEC 29794-5.")
    landmarks: list[tuple[float, float]] = Field(
        description="Left eye, right eye, nose, left and right mouth corner as seen in the image, in pixels."
    )

    @classmethod
    def of(cls, face: DetectedFace) -> "FoundFace":
        """Convert a detected face to a response."""
        return cls(**face_fields(face))


def face_fields(face: DetectedFace) -> dict[str, Any]:
    """The fields of a `FoundFace`, rounded."""
    return {
        "box": BoxShape.of(face.box),
        "detection_score": round(float(face.detection_score), 4),
        "quality": round(float(face.quality), 4),
        "landmarks": [(round(float(x), 2), round(float(y), 2)) for x, y in face.landmarks],
    }
