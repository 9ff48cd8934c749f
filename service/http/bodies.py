"""Reads request bodies: bounded in size, with deadlines for slow clients, within a budget of bytes, as strict JSON.

msgspec parses the JSON and refuses NaN and Infinity, which JSON does not have. Large bodies are parsed in a thread,
list by list, so that other requests go on.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from fastapi import Request
from starlette.types import Message

from service.access.authentication import NO_KEY
from service.access.keys import check_not_revoked
from service.database.session import tenant_session
from service.errors import InvalidEmbedding, InvalidRequest, PayloadTooLarge, RequestTimedOut, UnsupportedMediaType
from service.http.budgets import NO_TENANT, Holding
from service.http.pace import Pace
from service.http.state import server_state

MAXIMUM_JSON_BYTES = 1024 * 1024
RECHECKED_SECONDS = 10.0
"""A key is looked up again this often while a body arrives: a revoked key ends its uploads."""
IN_THREAD_FROM_BYTES = 128 * 1024
PEEKED_BYTES = 1024
MAXIMUM_VECTOR_BYTES = 256 * 1024  # 4,000 numbers of 64 bytes
NOT_FINITE = "the number is too large"
MAXIMUM_LENGTH_DIGITS = 18
_HOLDING = "held_bytes"
MAXIMUM_DETAIL_LENGTH = 300  # it may hold a field name that the client invented
T = TypeVar("T")
Vector = npt.NDArray[np.float64]
_IMAGE_FIELD = re.compile(rb'(?<!\\)"image"\s*:')
_NOT_FINITE = re.compile(rb"[\[,:\s]-?(?:NaN|nan|Infinity|inf)")


def media_type(request: Request) -> str:
    """The media type of the body, in lower case and without parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(request: Request) -> bool:
    """True for `application/json` and for every `+json` type."""
    kind = media_type(request)
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def is_multipart(request: Request) -> bool:
    """True for `multipart/form-data`."""
    return media_type(request) == "multipart/form-data"


def is_image(request: Request) -> bool:
    """True for a body that is an image itself: `image/jpeg`, any other `image/` type, `application/octet-stream`."""
    kind = media_type(request)
    return kind.startswith("image/") or kind == "application/octet-stream"


def announces_image(request: Request) -> bool:
    """True if the beginning of the JSON body has a field `image`. `peek` has looked."""
    return bool(getattr(request.state, "announces_image", False))


async def peek(request: Request) -> Request:
    """Receive the beginning of a JSON body, and note whether it announces an image.

    So a slot can be reserved and an image charged before the rest is received. Returns the request with its whole body.
    Raises RequestTimedOut if the client is silent.
    """
    patience_seconds = server_state(request).settings.client_patience_seconds
    messages: deque[Message] = deque()
    beginning = b""
    try:
        async with asyncio.timeout(patience_seconds):
            while len(beginning) < PEEKED_BYTES:
                messages.append(await request.receive())
                beginning += messages[-1].get("body", b"")
                if not messages[-1].get("more_body", False):
                    break
    except TimeoutError:
        raise RequestTimedOut(f"no data arrived for {patience_seconds:g} seconds") from None
    request.state.announces_image = _IMAGE_FIELD.search(beginning[:PEEKED_BYTES]) is not None

    async def receive() -> Message:
        return messages.popleft() if messages else await request.receive()

    return Request(request.scope, receive)


async def chunks(
    request: Request, limit_bytes: int, kept: Literal["memory", "disk"] = "memory"
) -> AsyncIterator[bytes]:
    """The body as it arrives, held until the request ends in the budget of the place where the caller keeps it.

    Raises PayloadTooLarge over the limit, RequestTimedOut if the client is too slow, UnsupportedMediaType if the body
    is compressed, Unauthenticated if the key is revoked meanwhile, TenantBodyBudgetFull or BodyBudgetFull if other
    requests hold too much.
    """
    _check_encoding(request)
    holding, limit_bytes = _hold(request, limit_bytes, kept)
    if declared_bytes(request) > limit_bytes:
        raise _too_large(limit_bytes)
    received = 0
    pace = _pace(request, kept)
    checked_at = time.monotonic()
    stream = request.stream()
    while True:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(pace.patience_seconds):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise pace.error() from None
        if time.monotonic() - checked_at >= RECHECKED_SECONDS:
            await _check_key(request)
            checked_at = time.monotonic()
        if chunk is None:
            return
        received += len(chunk)
        pace.count(time.monotonic() - begun, len(chunk))
        if received > limit_bytes:
            raise _too_large(limit_bytes)
        holding.add(len(chunk))
        yield chunk


async def _check_key(request: Request) -> None:
    """Raises Unauthenticated if the key of the request was revoked while the body arrives."""
    caller = getattr(request.state, "caller", None)
    if caller is not None and caller.key_id != NO_KEY:
        async with tenant_session(server_state(request).database.engine, caller.tenant_id) as session:
            await check_not_revoked(session, caller.key_id)


def declared_bytes(request: Request) -> int:
    """The length of the body in `Content-Length`; 0 if the head does not tell it."""
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() and len(declared) <= MAXIMUM_LENGTH_DIGITS else 0


def release_held_bytes(state: dict[str, Any]) -> None:
    """Give back the bytes that the request of `state` (of its scope) holds. Does nothing if it holds none."""
    holding: Holding | None = state.pop(_HOLDING, None)
    if holding is not None:
        holding.release()


def _hold(request: Request, limit_bytes: int, kept: Literal["memory", "disk"]) -> tuple[Holding, int]:
    """A holding that the end of the request releases, and the limit: no body can be larger than its tenant's share."""
    state, caller = server_state(request), getattr(request.state, "caller", None)
    budget = state.held_bytes if kept == "memory" else state.spooled_bytes
    holding = Holding(budget, NO_TENANT if caller is None else caller.tenant_id)
    release_held_bytes(request.scope["state"])
    request.scope["state"][_HOLDING] = holding
    return holding, min(limit_bytes, budget.share_bytes)


def _pace(request: Request, kept: Literal["memory", "disk"]) -> Pace:
    settings = server_state(request).settings
    whole_seconds = settings.maximum_body_seconds if kept == "memory" else settings.maximum_import_seconds
    return Pace(settings.client_patience_seconds, whole_seconds)


def _check_encoding(request: Request) -> None:
    """Raises UnsupportedMediaType for a compressed body: its size would be known only after the work of reading it."""
    encoding = request.headers.get("content-encoding", "").strip()
    if encoding and encoding.lower() != "identity":
        shown = "".join(character if character.isprintable() else "?" for character in encoding[:50])
        raise UnsupportedMediaType(f"the body has Content-Encoding: {shown}; send it without compression")


async def read_body(request: Request, limit_bytes: int) -> bytes | bytearray:
    """The whole body, at most `limit_bytes`."""
    pieces = chunks(request, limit_bytes)
    body: bytes | bytearray = await anext(pieces, b"")
    async for piece in pieces:
        body = bytearray(body) if isinstance(body, bytes) else body
        body += piece
    return body


async def read_json(request: Request, kind: type[T], limit_bytes: int = MAXIMUM_JSON_BYTES) -> T:
    """The body as an instance of the msgspec type `kind`. Raises UnsupportedMediaType if it is not declared as JSON."""
    if not is_json(request):
        raise UnsupportedMediaType("send JSON, with Content-Type: application/json")
    body = await read_body(request, limit_bytes)
    if len(body) < IN_THREAD_FROM_BYTES:
        return decode_json(body, kind)
    return await asyncio.to_thread(decode_json, body, kind)


def decode_json(body: bytes | bytearray, kind: type[T]) -> T:
    """Parse strict JSON as the msgspec type `kind`. Raises InvalidRequest or InvalidEmbedding, which say where the
    mistake is and quote nothing.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), kind) from None
    except msgspec.DecodeError as error:
        raise _no_json(body, error, kind) from None
    except UnicodeDecodeError:
        raise _no_utf8(body) from None
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None


async def decode_vectors(vectors: list[msgspec.Raw], field: str) -> list[Vector]:
    """Each raw JSON list as float64. Many lists are parsed in a thread, which yields between two lists.

    `field` names the lists in an InvalidEmbedding. A list longer than any embedding is refused.
    """
    if sum(len(vector) for vector in vectors) < IN_THREAD_FROM_BYTES:
        return _decode_vectors(vectors, field)
    return await asyncio.to_thread(_decode_vectors, vectors, field)


def _decode_vectors(vectors: list[msgspec.Raw], field: str) -> list[Vector]:
    decode = msgspec.json.Decoder(list[float]).decode
    decoded = []
    for position, vector in enumerate(vectors):
        name = field.format(position)
        if len(vector) > MAXIMUM_VECTOR_BYTES:
            raise InvalidEmbedding(f"{name} is longer than any embedding")
        try:
            decoded.append(np.array(decode(vector), np.float64))
        except msgspec.ValidationError as error:
            message = _worded(str(error)).replace("$", name)
            raise InvalidEmbedding(message if name in message else f"{message} - at `{name}`") from None
    return decoded


def _misfit(message: str, kind: type[object]) -> InvalidRequest:
    message = _worded(message).replace("$.", "").replace("`$`", "the body")
    is_of_embedding = (NOT_FINITE in message and kind is not object) or "embedding" in message.partition(" - at ")[2]
    return InvalidEmbedding(message) if is_of_embedding else InvalidRequest(message)


def _worded(message: str) -> str:
    """The message of msgspec, which names fields and types but no values, shortened and with one of its texts
    explained.
    """
    return message[:MAXIMUM_DETAIL_LENGTH].replace("Number out of range", NOT_FINITE)


def _no_json(body: bytes | bytearray, error: Exception, kind: type[object]) -> InvalidRequest:
    if not body.strip():
        return InvalidRequest("the body is empty")
    if _NOT_FINITE.search(body):
        refused = InvalidRequest if kind is object else InvalidEmbedding
        return refused("a number is NaN or infinite: JSON has neither, and they cannot be compared")
    return InvalidRequest(str(error))


def _no_utf8(body: bytes | bytearray) -> InvalidRequest:
    """The error for a text in another encoding, such as that of an old Windows program, with the first wrong byte."""
    try:
        bytes(body).decode()
    except UnicodeDecodeError as error:
        return InvalidRequest(f"the body is not UTF-8: byte {error.start} (counted from 0) is wrong")
    return InvalidRequest("a text in the body is not UTF-8")


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is larger than {limit_bytes} bytes", limit_bytes=limit_bytes)


def as_plain(body: bytes | bytearray) -> Any:
    """Strict JSON as plain Python objects."""
    return decode_json(body, object)
