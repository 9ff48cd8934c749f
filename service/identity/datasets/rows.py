"""One row of each JSON shape, where it says its picture came from, and what is wrong with one that does not fit."""

import json
import re
from typing import Any

import msgspec

from service.errors import InvalidDataset
from service.gallery.content import check_json

_PLACE = re.compile(r" - at `(?:\$\.?)?([^`]*)`")
_LARGEST_INTEGER = 1 << 53  # beyond it JSON readers disagree


class EncoderEntry(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of the encoder shape; `img` and `image` are two spellings of the picture's path or index."""

    embedding: list[float]
    img: Any = msgspec.UNSET
    image: Any = msgspec.UNSET


class NdjsonRow(msgspec.Struct, forbid_unknown_fields=True):
    """A line of NDJSON."""

    person: str
    embedding: list[float]
    external_id: str | None = None
    source: Any = None
    metadata: dict[str, Any] | None = None


def source_of(entry: EncoderEntry) -> Any:
    """What is stored of `img` (as it is) or `image` (under its name), so that export writes the same key again."""
    if entry.img is not msgspec.UNSET and entry.image is not msgspec.UNSET:
        raise InvalidDataset("`img` and `image` are the same field: one of them is enough")
    if entry.image is not msgspec.UNSET:
        return {"image": _path_or_index("image", entry.image)}
    if entry.img is not msgspec.UNSET:
        value = _path_or_index("img", entry.img)
        return {"img": None} if value is None else value
    return None


def check_source(source: Any) -> Any:
    """The source of a line of NDJSON itself; InvalidRequest for one that cannot be kept."""
    return None if source is None else check_json(source, "source")


def explain(error: Exception, piece: bytes) -> str:
    """What is wrong with a piece, naming the field and the number and quoting nothing of it."""
    if isinstance(error, msgspec.ValidationError):
        found = _PLACE.search(str(error))
        what = _PLACE.sub("", str(error)).replace("`", "")
        return f"`{found.group(1)}`: {what}" if found and found.group(1) else what
    not_finite = _field_not_finite(piece)
    return f"`{not_finite}` has a number that is not finite" if not_finite else "it is not JSON"


def _path_or_index(field: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise InvalidDataset(f"`{field}` is neither a text nor an integer")
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise InvalidDataset(f"`{field}` is too large an integer")
    return check_json(value, field)


def _field_not_finite(piece: bytes) -> str | None:
    """The field with NaN or Infinity, which Python writes and JSON does not have; None where that is not it."""
    found: list[str] = []
    try:
        json.loads(piece, parse_constant=found.append)
    except (ValueError, RecursionError):
        return None
    return "embedding" if found else None
