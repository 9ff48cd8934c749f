"""Reading a request's body: never more than its limit, never longer than a client keeps sending, strict JSON.

JSON is read by msgspec: NaN and Infinity, which JSON does not have, are refused, and a big body is read in a
thread, list by list, so that other requests go on meanwhile.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from fastapi import Request

from service.errors import InvalidEmbedding, InvalidRequest, PayloadTooLarge, RequestTimedOut, UnsupportedMediaType

MAXIMUM_JSON_BYTES = 1024 * 1024
SILENCE_SECONDS = 30.0
LEAST_BYTES_PER_SECOND = 1024
"""On the average, once a body has been waited for as long as a silence may be."""
IN_THREAD_FROM_BYTES = 128 * 1024
MAXIMUM_DETAIL_LENGTH = 300  # it may hold the name of a field that the client made up
T = TypeVar("T")
_NOT_FINITE = re.compile(rb"[\[,:\s]-?(?:NaN|nan|Infinity|inf)")


def media_type(request: Request) -> str:
    """The body's media type, in small letters and without parameters; empty where none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(request: Request) -> bool:
    """True for `application/json` and for every `+json`."""
    kind = media_type(request)
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def is_multipart(request: Request) -> bool:
    """True for `multipart/form-data`."""
    return media_type(request) == "multipart/form-data"


async def chunks(request: Request, limit_bytes: int) -> AsyncIterator[bytes]:
    """The body as it arrives. PayloadTooLarge over the limit, RequestTimedOut when nothing comes for 30 seconds."""
    declared = request.headers.get("content-length", "0")
    received = int(declared) if declared.isdecimal() else 0
    if received > limit_bytes:
        raise _too_large(limit_bytes)
    received = 0
    waited = 0.0
    stream = request.stream()
    while True:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise RequestTimedOut(f"nothing arrived for {SILENCE_SECONDS:.0f} seconds") from None
        if chunk is None:
            return
        received += len(chunk)
        waited += time.monotonic() - begun
        if waited > SILENCE_SECONDS and received < waited * LEAST_BYTES_PER_SECOND:
            raise RequestTimedOut(f"the body comes slower than {LEAST_BYTES_PER_SECOND} bytes a second")
        if received > limit_bytes:
            raise _too_large(limit_bytes)
        yield chunk


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body, of at most `limit_bytes`."""
    return b"".join([chunk async for chunk in chunks(request, limit_bytes)])


async def read_json(request: Request, kind: type[T], limit_bytes: int = MAXIMUM_JSON_BYTES) -> T:
    """The body as a msgspec `kind`; UnsupportedMediaType where it is not declared as JSON."""
    if not is_json(request):
        raise UnsupportedMediaType("send JSON, with Content-Type: application/json")
    return decode_json(await read_body(request, limit_bytes), kind)


def decode_json(body: bytes, kind: type[T]) -> T:
    """Strict JSON as a msgspec `kind`; InvalidRequest or InvalidEmbedding says where it is wrong, never what it is."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    except msgspec.DecodeError as error:
        raise _no_json(body, error) from None
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None


async def decode_vectors(vectors: list[msgspec.Raw], field: str) -> list[list[float]]:
    """Each raw JSON list as numbers; a lot of them in a thread, which lets others run between two lists."""
    if sum(len(vector) for vector in vectors) < IN_THREAD_FROM_BYTES:
        return _decode_vectors(vectors, field)
    return await asyncio.to_thread(_decode_vectors, vectors, field)


def _decode_vectors(vectors: list[msgspec.Raw], field: str) -> list[list[float]]:
    decode = msgspec.json.Decoder(list[float]).decode
    decoded = []
    for position, vector in enumerate(vectors):
        try:
            decoded.append(decode(vector))
        except msgspec.ValidationError as error:
            raise InvalidEmbedding(str(error).replace("$", f"{field}[{position}]")) from None
    return decoded


def _misfit(message: str) -> InvalidRequest:
    message = message[:MAXIMUM_DETAIL_LENGTH].replace("$.", "").replace("`$`", "the body")
    if "Number out of range" in message:
        return InvalidEmbedding(message.replace("Number out of range", "a number is too great to be finite"))
    return InvalidEmbedding(message) if "embedding" in message.partition(" - at ")[2] else InvalidRequest(message)


def _no_json(body: bytes, error: Exception) -> InvalidRequest:
    if not body.strip():
        return InvalidRequest("the body is empty")
    if _NOT_FINITE.search(body):
        return InvalidEmbedding("a number is NaN or infinite: JSON has neither, and neither can be compared")
    return InvalidRequest(str(error))


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body may have {limit_bytes} bytes", limit_bytes=limit_bytes)


def as_plain(body: bytes) -> Any:
    """Strict JSON as plain Python objects."""
    return decode_json(body, object)
