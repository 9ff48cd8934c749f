"""One row of each JSON shape, where it says its picture came from, and what is wrong with one that does not fit."""

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
_LONGEST_NAME = 60
_LONGEST_REASON = 200
_LARGEST_INTEGER = 1 << 53  # beyond it JSON readers disagree


class EncoderEntry(msgspec.Struct, forbid_unknown_fields=True):
    """An entry of the encoder shape; `img` and `image` are two spellings of the picture's path or index."""

    embedding: list[float]
    img: Any = msgspec.UNSET
    image: Any = msgspec.UNSET


class NdjsonRow(msgspec.Struct, forbid_unknown_fields=True):
    """A line of NDJSON. `source` and `metadata` are read by Python's parser, which keeps integers of any size."""

    person: str
    embedding: list[float]
    external_id: str | None = None
    source: msgspec.Raw = msgspec.Raw(b"null")
    metadata: msgspec.Raw = msgspec.Raw(b"null")


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


def free_value(field: str, raw: msgspec.Raw) -> Any:
    """What stands in `source` or `metadata`; InvalidRequest for what cannot be kept."""
    try:
        value = json.loads(bytes(raw))
    except (ValueError, RecursionError):
        raise InvalidDataset(f"`{field}` is not well-formed JSON") from None
    return None if value is None else check_json(value, field)


def explain(error: Exception, piece: bytes, fields: Sequence[str]) -> str:
    """What is wrong with a piece, naming the field and the number and quoting nothing of it.

    `fields` are those that it may have.
    """
    if isinstance(error, msgspec.ValidationError):
        return _explain_field(str(error), fields)[:_LONGEST_REASON]
    if _is_not_finite(piece):
        return "a number is not finite (NaN or Infinity)"
    return "it is not well-formed JSON"


def _explain_field(message: str, fields: Sequence[str]) -> str:
    if missing := _MISSING.match(message):
        return f"`{missing.group(1)}` is missing"
    if unknown := _UNKNOWN.match(message):
        return f"there is no field `{unknown.group(1)[:_LONGEST_NAME]}`, only {', '.join(fields)}"
    place = _PLACE.search(message)
    reason = _PLACE.sub("", message).replace("`", "").lower()
    return f"`{place.group(1)}`: {reason}" if place and place.group(1) else reason


def _path_or_index(field: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise InvalidDataset(f"`{field}` is neither a text nor an integer")
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise InvalidDataset(f"`{field}` is too large an integer")
    return check_json(value, field)


def _is_not_finite(piece: bytes) -> bool:
    """Whether it would be JSON but for NaN or Infinity, which Python writes and JSON does not have."""
    found: list[str] = []
    try:
        json.loads(piece, parse_constant=found.append)
    except (ValueError, RecursionError):
        return False
    return bool(found)
