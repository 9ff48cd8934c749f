"""Checks of names and JSON: PostgreSQL stores them exactly, and no terminal or page breaks on them."""

import json
import re
import unicodedata
from enum import Enum
from typing import Any

from service.database.names import canonical_name
from service.errors import InvalidRequest, UnstorableJson

MAXIMUM_NAME_LENGTH = 500
MAXIMUM_GALLERY_NAME_LENGTH = 200
MAXIMUM_METADATA_BYTES = 16 * 1024
MAXIMUM_JSON_DEPTH = 64
"""Nesting of lists and objects. The JSON encoder of the responses fails a few hundred levels deep."""
_REFUSED = {"Cc", "Cs"}  # control characters (with NUL) and lone surrogates
_ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|.)")  # pairs each backslash with its letter: in "\\\\u0000" there is no U+0000


class Unset(Enum):
    """The type of UNSET, which stands for a field that a partial update leaves out. None is a value of its own."""

    UNSET = "unset"


UNSET = Unset.UNSET


def check_name(name: str, what: str = "name", maximum: int = MAXIMUM_NAME_LENGTH) -> str:
    """Return the name in its canonical form.

    Raises InvalidRequest if it is blank, longer than `maximum`, or holds control characters.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"{what}: a name has 1 to {maximum} characters and is not blank")
    name = canonical_name(name)
    if len(name) > maximum:
        raise InvalidRequest(f"{what}: {len(name)} characters, at most {maximum} are allowed")
    if any(unicodedata.category(character) in _REFUSED for character in name):
        raise InvalidRequest(f"{what}: control characters and lone surrogates are not allowed")
    return name


def check_gallery_name(name: str) -> str:
    """Return the name in its canonical form. It is part of URLs, so it has no slash and is neither `.` nor `..`."""
    name = check_name(name, "gallery name", MAXIMUM_GALLERY_NAME_LENGTH)
    if "/" in name or name in {".", ".."}:
        raise InvalidRequest("gallery name: it is part of URLs, so it must not contain a slash or be . or ..")
    return name


def check_metadata(metadata: Any) -> dict[str, Any]:
    """Return the metadata. Raises InvalidRequest if it is not a JSON object or is larger than 16 KiB."""
    if not isinstance(metadata, dict):
        raise InvalidRequest("metadata: must be a JSON object")
    check_json(metadata, "metadata")
    return metadata


def check_json(value: Any, what: str) -> Any:
    """Return the value. Raises UnstorableJson if PostgreSQL cannot store it as JSON or it is larger than 16 KiB."""
    try:
        encoded = json.dumps(value, allow_nan=False, ensure_ascii=False)
        size = len(encoded.encode())
    except (TypeError, ValueError, RecursionError):
        raise UnstorableJson(f"{what}: not a JSON value") from None
    if _is_deeper_than(value, MAXIMUM_JSON_DEPTH):
        raise UnstorableJson(f"{what}: nested more than {MAXIMUM_JSON_DEPTH} levels deep")
    if any(escape[0] == "\\u0000" for escape in _ESCAPE.finditer(encoded)):
        raise UnstorableJson(f"{what}: the character U+0000 cannot be stored")
    if size > MAXIMUM_METADATA_BYTES:
        raise UnstorableJson(f"{what}: {size} bytes, at most {MAXIMUM_METADATA_BYTES} are allowed")
    return value


def _is_deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else []
