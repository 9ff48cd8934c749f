"""Shapes that several resources of `/v1` share: requests refuse what they do not know, answers are plain."""

from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from service.access.names import MAXIMUM_NAME_LENGTH as MAXIMUM_PRINTABLE_LENGTH
from service.database.pagination import Page
from service.encoder.contract import Box, DetectedFace
from service.gallery.content import MAXIMUM_GALLERY_NAME_LENGTH, MAXIMUM_NAME_LENGTH

Item = TypeVar("Item")
Row = TypeVar("Row")

Limit = Annotated[int, Query(ge=1, le=1000, description="Items a page.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next_cursor` of the page before.")]
Candidates = Annotated[int, Query(alias="limit", ge=1, le=100, description="Candidates a face, best first.")]
Threshold = Annotated[
    float | None,
    Query(ge=0, le=1, allow_inf_nan=False, description="Similarity asked for a match; the gallery's where left out."),
]
EncoderName = Annotated[
    str | None, Query(max_length=500, description="An encoder of this server, as in ENCODER; the first where left out.")
]


def _not_null(value: Item) -> Item:
    if value is None:
        raise PydanticCustomError("null", "null is no value here; what is left out stays as it is")
    return value


Kept = Annotated[Item | SkipJsonSchema[None], AfterValidator(_not_null)]
"""A field of a change: left out (None here) it stays as it is, and null may not be sent."""


def _number(value: Any) -> Any:
    """In JSON a whole number is one with any number of zeros after its point, but no text and no truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("number", "a whole number is needed")
    return value


WHOLE = BeforeValidator(_number)
"""Stands after the bounds of a whole number in a request's body."""


def _format(name: str, longest: int) -> dict[str, JsonValue]:
    """What the documentation says of a text; the room that keeps it checks it and says what is wrong."""
    return {"format": name, "minLength": 1, "maxLength": longest}


Name = Annotated[str, Field(json_schema_extra=_format("name", MAXIMUM_NAME_LENGTH))]
"""What a person is called: not blank, no control characters."""
GalleryNaming = Annotated[str, Field(json_schema_extra=_format("gallery-name", MAXIMUM_GALLERY_NAME_LENGTH))]
"""What a gallery is called: a name without a slash, and not . or .."""
TenantNaming = Annotated[str, Field(json_schema_extra=_format("tenant-name", MAXIMUM_PRINTABLE_LENGTH))]
"""What a tenant is called: printable characters, not all of them blank, no slash, and not . or ..."""
ShortName = Annotated[str, Field(json_schema_extra=_format("printable-name", MAXIMUM_PRINTABLE_LENGTH))]
"""What a key is called: printable characters, not all of them blank."""


class RequestModel(BaseModel):
    """What a client sends: an unknown field is an error, not a silence."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class List(BaseModel, Generic[Item]):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[Item]
    next_cursor: str | None


def page_of(page: Page[Row], shape: Callable[[Row], Item]) -> List[Item]:
    """A page of the room below as it is answered."""
    return List(items=[shape(item) for item in page.items], next_cursor=page.next_cursor)


class BoxShape(BaseModel):
    """A face's rectangle in pixels of the upright picture."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, box: Box) -> "BoxShape":
        """The box to a hundredth of a pixel."""
        return cls(
            left=round(box.left, 2), top=round(box.top, 2), right=round(box.right, 2), bottom=round(box.bottom, 2)
        )


class FoundFace(BaseModel):
    """One face found in a picture."""

    box: BoxShape
    detection_score: float = Field(description="The detector's own measure: higher is surer.")
    quality: float = Field(description="0..1, a heuristic of sharpness, size and pose; not ISO/IEC 29794-5.")
    landmarks: list[tuple[float, float]] = Field(
        description="Left eye, right eye, nose, left and right mouth corner, in pixels, as seen in the picture."
    )

    @classmethod
    def of(cls, face: DetectedFace) -> "FoundFace":
        """The face as it is answered."""
        return cls(**found(face))


def found(face: DetectedFace) -> dict[str, Any]:
    """The members of a found face."""
    return {
        "box": BoxShape.of(face.box),
        "detection_score": round(float(face.detection_score), 4),
        "quality": round(float(face.quality), 4),
        "landmarks": [(round(float(x), 2), round(float(y), 2)) for x, y in face.landmarks],
    }
