"""What schemathesis has to know of this service: names, pictures and dataset files, and when a refusal is in order."""

import json
import unicodedata
from typing import Any
from zlib import crc32

import schemathesis
from hypothesis import strategies
from schemathesis import Case, CheckContext, GenerationMode, Response

from service.encoder.fake_pictures import draw_nobody, draw_people

MEANING = {
    "invalid-cursor",
    "expires-in-the-past",
    "unknown-encoder",
    "embedding-space-mismatch",
    "invalid-embedding",
    "invalid-dataset",
    "unreadable-image",
    "unsupported-image-format",
    "image-too-large",
    "no-face-found",
    "several-faces",
    "duplicate-picture",
    "unsupported-media-type",
    "payload-too-large",
    "unstorable-json",
}
"""Problems of what a request means; a request that its schema allows is never refused for its form."""


def _is_name(text: str) -> bool:
    return text.strip() != "" and not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)


_CHARACTERS = strategies.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
_NAMES = strategies.text(_CHARACTERS, min_size=1, max_size=200).filter(_is_name)
_PLACES = _NAMES.filter(lambda name: "/" not in name and name not in {".", ".."})
_PICTURES = [draw_people(["Ada"]), draw_people(["Ada", "Grace"]), draw_nobody(), draw_people(["Ada"])[:-50]]

schemathesis.openapi.format("name", _NAMES)
schemathesis.openapi.format("gallery-name", _PLACES)
schemathesis.openapi.format("tenant-name", _PLACES.filter(str.isprintable))
schemathesis.openapi.format("printable-name", _NAMES.filter(str.isprintable))


@schemathesis.serializer("application/x-ndjson")
def as_rows(_: schemathesis.SerializationContext, value: Any) -> dict[str, Any]:
    """Rows as they are, anything else as one row."""
    return {"data": value.encode(errors="replace") if isinstance(value, str) else json.dumps(value).encode()}


@schemathesis.hook
def map_body(_: schemathesis.HookContext, body: Any) -> Any:
    """Where bytes would be sent as pictures, send pictures: chosen by the bytes, so that a case can be repeated."""
    if isinstance(body, dict) and isinstance(body.get("image"), list):
        images = [_PICTURES[crc32(str(image).encode()) % len(_PICTURES)] for image in body["image"]]
        return body | {"image": images}
    return body


@schemathesis.check
def refusal_is_about_meaning(_: CheckContext, response: Response, case: Case) -> None:
    """A request that fits its schema is not answered `invalid-request`."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if response.status_code in {413, 415, 422}:
        slug = response.json()["type"].rpartition(":")[2]
        assert slug in MEANING, f"what its schema allows was refused as {slug}: {response.json()['detail']}"
