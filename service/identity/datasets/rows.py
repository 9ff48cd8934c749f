"""The rows of the JSON formats, the source of their image, and readable errors for rows that do not fit."""

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from service.errors import InvalidDataset
from service.gallery.content import check_json

_PLACE = re.compile(r" - at `(?:\$\.?)?([^`]*)`")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]*)`")
_LONGEST_REASON = 200
_LARGEST_INTEGER = 1 << 53  # beyond this, JSON readers disagree about the value


class EncoderEntry(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of the encoder format. `img` and `image` are two spellings of the path or index of the image."""

    embedding: list[float]
    img: Any = msgspec.UNSET
    image: Any = msgspec.UNSET


class NdjsonRow(msgspec.Struct, forbid_unknown_fields=True):
    """A line of NDJSON. Python's parser reads `source` and `metadata`, because it keeps integers of any size."""

    person: str
    embedding: list[float]
    external_id: str | None = None
    source: msgspec.Raw = msgspec.Raw(b"null")
    metadata: msgspec.Raw = msgspec.Raw(b"null")


def source_of(entry: EncoderEntry) -> Any:
    """The stored form of `img` (the value itself) or `image` (under its name), so that export writes the same key."""
    if entry.img is not msgspec.UNSET and entry.image is not msgspec.UNSET:
        raise InvalidDataset("`img` and `image` are the same field; give one of them")
    if entry.image is not msgspec.UNSET:
        return {"image": _path_or_index("image", entry.image)}
    if entry.img is not msgspec.UNSET:
        value = _path_or_index("img", entry.img)
        return {"img": None} if value is None else value
    return None


def free_value(field: str, raw: msgspec.Raw) -> Any:
    """The value of `source` or `metadata`. Raises InvalidRequest if it cannot be stored."""
    try:
        value = json.loads(bytes(raw))
    except (ValueError, RecursionError):
        raise InvalidDataset(f"`{field}` is not well-formed JSON") from None
    return None if value is None else check_json(value, field)


def explain(error: Exception, piece: bytes, fields: Sequence[str]) -> str:
    """The mistake in a value: names the field and the index, and quotes nothing.

    `fields` are the names that the value may have.
    """
    if isinstance(error, msgspec.ValidationError):
        return _explain_field(str(error), fields)[:_LONGEST_REASON]
    if _is_not_finite(piece):
        return "a number is not finite (NaN or Infinity)"
    return "not well-formed JSON"


def _explain_field(message: str, fields: Sequence[str]) -> str:
    if missing := _MISSING.match(message):
        return f"`{missing.group(1)}` is missing"
    if _UNKNOWN.match(message):  # its name may be a person's, in a file of another shape
        return f"a field is unknown, known are {', '.join(fields)}"
    place = _PLACE.search(message)
    reason = _PLACE.sub("", message).replace("`", "").lower()
    return f"`{place.group(1)}`: {reason}" if place and place.group(1) else reason


def _path_or_index(field: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise InvalidDataset(f"`{field}` is neither a string nor an integer")
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise InvalidDataset(f"`{field}` is an integer that is too large")
    return check_json(value, field)


def _is_not_finite(piece: bytes) -> bool:
    """Whether the text is JSON except for NaN or Infinity, which Python writes and JSON does not have."""
    found: list[str] = []
    try:
        json.loads(piece, parse_constant=found.append)
    except (ValueError, RecursionError):
        return False
    return bool(found)
