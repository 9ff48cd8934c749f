"""What callers may store as names and JSON: everything PostgreSQL keeps exactly, nothing that breaks a display."""

import json
import re
import unicodedata
from typing import Any

from service.errors import InvalidRequest, UnstorableJson

MAXIMUM_NAME_LENGTH = 500
MAXIMUM_GALLERY_NAME_LENGTH = 200
MAXIMUM_METADATA_BYTES = 16 * 1024
MAXIMUM_JSON_DEPTH = 64
"""Lists and objects in each other; what writes answers goes a few hundred deep before it gives up."""
_REFUSED = {"Cc", "Cs"}  # control characters (NUL among them) and lone surrogates
_ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|.)")  # pairs each backslash with its letter: in "\\\\u0000" there is no U+0000


def check_name(name: str, what: str = "name", maximum: int = MAXIMUM_NAME_LENGTH) -> str:
    """The name itself; InvalidRequest where it is blank, longer than `maximum` or holds control characters."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"{what}: 1 to {maximum} characters, not all of them blank")
    if len(name) > maximum:
        raise InvalidRequest(f"{what}: {len(name)} characters where {maximum} are the most")
    if any(unicodedata.category(character) in _REFUSED for character in name):
        raise InvalidRequest(f"{what}: control characters and lone surrogates are not allowed")
    return name


def check_gallery_name(name: str) -> str:
    """The name itself; it stands in addresses, so slashes and the two names made of dots are refused too."""
    check_name(name, "gallery name", MAXIMUM_GALLERY_NAME_LENGTH)
    if "/" in name or name in {".", ".."}:
        raise InvalidRequest("gallery name: it stands in addresses, so it has no slash and is not . or ..")
    return name


def check_metadata(metadata: Any) -> dict[str, Any]:
    """The metadata itself; InvalidRequest where it is no JSON object or larger than 16 KiB."""
    if not isinstance(metadata, dict):
        raise InvalidRequest("metadata: a JSON object")
    check_json(metadata, "metadata")
    return metadata


def check_json(value: Any, what: str) -> Any:
    """The value itself; UnstorableJson where it is not JSON that PostgreSQL keeps, or larger than 16 KiB."""
    try:
        encoded = json.dumps(value, allow_nan=False, ensure_ascii=False)
        size = len(encoded.encode())
    except (TypeError, ValueError, RecursionError):
        raise UnstorableJson(f"{what}: it cannot be written as JSON") from None
    if _is_deeper_than(value, MAXIMUM_JSON_DEPTH):
        raise UnstorableJson(f"{what}: nested more than {MAXIMUM_JSON_DEPTH} deep")
    if any(escape[0] == "\\u0000" for escape in _ESCAPE.finditer(encoded)):
        raise UnstorableJson(f"{what}: the character U+0000 cannot be stored")
    if size > MAXIMUM_METADATA_BYTES:
        raise UnstorableJson(f"{what}: {size} bytes where {MAXIMUM_METADATA_BYTES} are the most")
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
