"""What a JSON body gives: an image as base64, embeddings as probes, or an embedding as a reference.

The JSON is strict. The gallery checks the values of embeddings.
"""

import asyncio
import math
from typing import Any, TypeVar

import msgspec
from fastapi import Request

from service.errors import InvalidRequest
from service.http.base64_images import NO_ADDRESSES, decode_base64_image
from service.http.bodies import (
    IN_THREAD_FROM_BYTES,
    MAXIMUM_JSON_BYTES,
    Vector,
    announces_image,
    decode_vectors,
    read_json,
)
from service.http.state import server_state

MAXIMUM_PROBES = 1000


class ImageBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A body that may hold an image. The addresses are fields only so that their refusal gives the reason."""

    image: str | msgspec.UnsetType = msgspec.UNSET
    url: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    image_url: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Probe(ImageBody):
    embedding: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # parsed later, because it may be long
    embeddings: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


class NewReference(ImageBody):
    """An embedding to store for a person, with its source given by the caller; or an image."""

    embedding: list[float] | msgspec.UnsetType = msgspec.UNSET
    source: Any = None


Body = TypeVar("Body", bound=ImageBody)


async def read_image_or_probes(request: Request, limit_bytes: int = MAXIMUM_JSON_BYTES) -> bytes | list[Vector]:
    """The image of `{"image": "..."}`, or the probes of `{"embedding": [...]}` or `{"embeddings": [[...], ...]}`, from
    1 to 1,000. `limit_bytes` is the limit of a body with embeddings.
    """
    body = await _read(request, _Probe, limit_bytes)
    given = [name for name in ("image", "embedding", "embeddings") if getattr(body, name) is not msgspec.UNSET]
    if len(given) != 1:
        raise InvalidRequest("send exactly one of image, embedding and embeddings")
    if isinstance(body.image, str):
        return await _decoded(request, body.image)
    if isinstance(body.embedding, msgspec.Raw):
        return await decode_vectors([body.embedding], "embedding")
    vectors = body.embeddings if isinstance(body.embeddings, list) else []
    if not 1 <= len(vectors) <= MAXIMUM_PROBES:
        raise InvalidRequest(f"embeddings: {len(vectors)}, 1 to {MAXIMUM_PROBES} are allowed")
    return await decode_vectors(vectors, "embeddings[{}]")


async def read_image_or_reference(request: Request) -> bytes | NewReference:
    """The image of `{"image": "..."}`, or `{"embedding": [...]}` with an optional `source`."""
    body = await _read(request, NewReference, MAXIMUM_JSON_BYTES)
    if isinstance(body.image, str) == isinstance(body.embedding, list):
        raise InvalidRequest("send either image or embedding")
    return await _decoded(request, body.image) if isinstance(body.image, str) else body


async def read_json_image(request: Request) -> bytes:
    """The image of `{"image": "..."}`."""
    body = await _read(request, ImageBody, MAXIMUM_JSON_BYTES)
    if not isinstance(body.image, str):
        raise InvalidRequest("the field image is missing: the image as base64")
    return await _decoded(request, body.image)


async def _read(request: Request, kind: type[Body], limit_bytes: int) -> Body:
    """The body. A body that announces an image may be as long as the base64 text of the largest image."""
    settings = server_state(request).settings
    if announces_image(request):
        of_image = math.ceil(settings.maximum_image_bytes * 4 / 3) + MAXIMUM_JSON_BYTES
        limit_bytes = min(settings.maximum_json_bytes, of_image)
    body = await read_json(request, kind, limit_bytes)
    for name in ("url", "image_url"):
        if getattr(body, name) is not msgspec.UNSET:
            raise InvalidRequest(f"{name}: {NO_ADDRESSES}")
    return body


async def _decoded(request: Request, text: str) -> bytes:
    limit_bytes = server_state(request).settings.maximum_image_bytes
    if len(text) < IN_THREAD_FROM_BYTES:
        return decode_base64_image(text, limit_bytes)
    return await asyncio.to_thread(decode_base64_image, text, limit_bytes)
