"""Tells schemathesis about this service: names, images, dataset files, and when a refusal is correct.

Two checks are added to its own: why a valid request may be refused, and that deleted resources are gone.
"""

import json
import os
import unicodedata
from itertools import cycle, islice
from typing import Any
from urllib.parse import quote
from zlib import crc32

import requests
import schemathesis
from hypothesis import strategies
from schemathesis import Case, CheckContext, GenerationMode, Response

from service.encoder.fake import FAKE_SPACE
from service.encoder.fake_pictures import draw_nobody, draw_people
from tests.security.fuzz import DIMENSIONS
from tests.support.bombs import (
    bmp_of_runs,
    gif_of_blocks,
    jpeg_of_scans,
    jpeg_of_segments,
    png_of_chunks,
    tiff_of_strips,
    webp_of_chunks,
)

_LONGEST_FILTER = 16 * 1024
_LONGEST_QUERY = 20_000
"""Bytes of a filter by metadata in an address, so that the head of a request fits."""
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
"""Problems about the meaning of a request. A request that its schema allows is never refused for its form."""


def _is_name(text: str) -> bool:
    return text.strip() != "" and not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)


_MADE: dict[tuple[str, str], str] = {}
"""Keys made in this run, by their path and their id or their tenant's name."""
_CHARACTERS = strategies.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
_NAMES = strategies.text(_CHARACTERS, min_size=1, max_size=200).filter(_is_name)
_PLACES = _NAMES.filter(lambda name: "/" not in name and name not in {".", ".."})
_KEPT = os.environ.get("FUZZ_KEPT", "").split()
"""The tenant and the keys of the run, and the galleries, people and faces that exist at its start."""
_GALLERIES = ["staff", "numbers"]
_BY_NAME = {"/v1/galleries/{gallery}/faces", "/v1/galleries/{gallery}/faces/embedding"}
"""The routes that find or create a person by name or external id."""
_PICTURES = [
    *(draw_people([name]) for name in ("Ada", "Grace", "Alan", "Edsger")),
    *(draw_people(["Ada", "Grace"]), draw_nobody(), draw_people(["Ada"])[:-50]),
    *(jpeg_of_scans(101), jpeg_of_scans(50), jpeg_of_segments(1001), png_of_chunks(3000), gif_of_blocks(5000)),
    *(webp_of_chunks(3000), tiff_of_strips(2000, overlapping=True), bmp_of_runs(1000)),
]

schemathesis.openapi.format("name", _NAMES)
schemathesis.openapi.format("gallery-name", _PLACES)
schemathesis.openapi.format("tenant-name", _PLACES.filter(str.isprintable))
schemathesis.openapi.format("printable-name", _NAMES.filter(str.isprintable))


@schemathesis.serializer("application/x-ndjson")
def as_rows(_: schemathesis.SerializationContext, value: Any) -> Any:
    """Return a list of rows unchanged, anything else as one row."""
    return {"data": value.encode(errors="replace") if isinstance(value, str) else json.dumps(value).encode()}


@schemathesis.deserializer("application/x-ndjson")
def rows(_: schemathesis.DeserializationContext, response: Response) -> list[Any]:
    """Return the JSON objects of the lines of an export."""
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.hook
def map_body(_: schemathesis.HookContext, body: Any) -> Any:
    """Send images if the body would have text as images. Repeat or cut an embedding to a length that galleries accept.

    The choice depends on the body, so that a case can be repeated, and bodies that break the schema stay unchanged. A
    boolean in place of an image is the point of a negative case: an image instead would correctly be answered 200.
    """
    images, embedding = (body.get("image"), body.get("embedding")) if isinstance(body, dict) else (None, None)
    if isinstance(images, list) and all(isinstance(image, str) for image in images):
        return body | {"image": [_PICTURES[_choice(image, len(_PICTURES))] for image in images]}
    if isinstance(embedding, list) and all(type(number) in {int, float} for number in embedding):
        lengths = (len(embedding), DIMENSIONS, FAKE_SPACE.dimension)
        return body | {"embedding": list(islice(cycle(embedding), lengths[_choice(embedding, len(lengths))]))}
    return body


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: Case[Any], __: dict[str, Any]) -> None:
    """Leave out requests that would end the run, and let schemathesis judge a form by the sent form.

    Without the tenant and the keys of the run every later request would be answered 401 and test nothing, and without
    the initial galleries and people 404: a request that would change them is sent for a name that does not exist. In a
    form a file is bytes: a number or an object in its place is sent as JSON, which is a valid file too.

    Two rules cannot be said in the schema: a person is named by one parameter at least, and galleries of a key exist.
    """
    metadata = (case.query or {}).get("metadata")
    if isinstance(metadata, str) and len(quote(metadata)) > _LONGEST_QUERY:  # 431 comes before any route
        case.query = {
            **case.query,
            "metadata": "{}" if len(metadata) <= _LONGEST_FILTER else "x" * (_LONGEST_FILTER + 1),
        }
    if case.method in {"DELETE", "PATCH"} or case.path.endswith("/rotate"):
        for parameter, value in list(case.path_parameters.items())[-1:]:
            if value in _KEPT:
                case.path_parameters = case.path_parameters | {parameter: "nobody"}
    if case.media_type == "multipart/form-data" and case.path.endswith("/import") and isinstance(case.body, dict):
        _change_body(case, {name: _as_file(value) for name, value in case.body.items()})
    if case.path in _BY_NAME and all(case.query.get(name) is None for name in ("person", "external_id")):
        case.query = {**case.query, "person": "Ada"}
    if case.path == "/v1/keys" and case.method == "POST" and isinstance(case.body, dict):
        _change_body(case, _with_galleries(case.body))


@schemathesis.check
def refusal_is_about_meaning(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """A request that fits its schema is not answered `invalid-request`."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if response.status_code in {413, 415, 422}:
        slug = response.json()["type"].rpartition(":")[2]
        if slug == "invalid-request" and case.path.endswith("/streams"):  # no schema holds the grammar of an offer
            return
        assert slug in MEANING, f"what its schema allows was refused as {slug}: {response.json()['detail']}"


@schemathesis.check
def deleted_is_gone(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """A deleted resource cannot be deleted again. A key opens until the key or its tenant is deleted.

    This adds to `use_after_free`, which covers only resources with an address of their own: keys and faces have none.
    """
    place = case.path.partition("/{")[0]
    if case.method == "POST" and response.status_code == 201 and "key" in (made := response.json()):
        _MADE[place, made.get("id", made["name"])] = made["key"]
        assert _answer_to(made["key"], response) != 401, "a key just made does not open"
    if case.method != "DELETE" or response.status_code != 204:
        return
    name = str(list(case.path_parameters.values())[-1])
    if (place, name) in _MADE:
        assert _answer_to(_MADE[place, name], response) == 401, "a key opens that was deleted"
    if not place.endswith("/keys"):  # a revoked key stays in the list and may be revoked again
        again = requests.delete(str(response.request.url), headers=response.request.headers, timeout=30).status_code
        assert again == 404, f"what was deleted is still there to be deleted: {again}"


def _answer_to(key: str, response: Response) -> int:
    start = str(response.request.url).partition("/v1/")[0]
    path = "/v1/operator/keys" if key.startswith("fio_") else "/v1/usage"
    return requests.get(start + path, headers={"X-API-Key": key}, timeout=30).status_code


def _choice(value: Any, choices: int) -> int:
    return crc32(repr(value).encode(errors="replace")) % choices


def _change_body(case: Case[Any], body: Any) -> None:
    """Set the body if it is another one: schemathesis judges a body again that was set, and cannot judge bytes."""
    if body != case.body:
        case.body = body


def _with_galleries(body: dict[str, Any]) -> dict[str, Any]:
    """A new key for galleries that may be missing, or else for those of the run."""
    galleries, may_be_missing = body.get("galleries"), body.get("missing_ok", False)
    if not isinstance(galleries, list) or may_be_missing is not False:
        return body
    return body | ({"galleries": _GALLERIES} if _choice(galleries, 2) else {"missing_ok": True})


def _as_file(value: Any) -> Any:
    if isinstance(value, list):
        if len(value) != 1:
            return value  # more or fewer than one file: the service must refuse that
        (value,) = value
    return value if isinstance(value, str) else json.dumps(value)
