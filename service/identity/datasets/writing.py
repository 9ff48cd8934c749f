"""Writes a gallery as a dataset file: a stream of bytes, equal for equal references, every float exact.

A number is written as the shortest decimal that reads back as the same float64.
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from service.gallery.exact_values import Reference, stream_references
from service.gallery.galleries import Gallery

Format = Literal["dataset", "encoder", "ndjson"]
CHUNK_BYTES = 64 * 1024

_json = msgspec.json.Encoder()


def export_dataset(session: AsyncSession, gallery: Gallery, format: Format) -> AsyncIterator[bytes]:
    """The gallery's references: `dataset` and `ndjson` in the order of enrollment, `encoder` grouped by name.

    Only `ndjson` holds external ids and metadata; `dataset` holds no sources. The other formats identify people by name
    alone.
    """
    writers = {"dataset": _dataset, "encoder": _encoder, "ndjson": _ndjson}
    return _in_chunks(writers[format](session, gallery))


async def _in_chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    chunk = bytearray()
    async for piece in pieces:
        chunk += piece
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


async def _dataset(session: AsyncSession, gallery: Gallery) -> AsyncIterator[bytes]:
    before = b"["
    async for reference in stream_references(session, gallery):
        yield before + b"[" + _json.encode(reference.name) + b',"' + _numbers(reference.values)[1:-1] + b'"]'
        before = b",\n"
    yield b"[]\n" if before == b"[" else b"]\n"


async def _encoder(session: AsyncSession, gallery: Gallery) -> AsyncIterator[bytes]:
    """A name occurs once, because JSON readers keep only the last of equal keys. People of one name share its list."""
    label: str | None = None
    position = 0
    async for reference in stream_references(session, gallery, by_name=True):
        if reference.name != label:
            yield (b"{" if label is None else b"],\n") + _json.encode(reference.name) + b":["
            label, position = reference.name, 0
        yield (b",\n" if position else b"") + _entry(reference, position)
        position += 1
    yield b"{}\n" if label is None else b"]}\n"


def _entry(reference: Reference, position: int) -> bytes:
    """Readers of this format expect an image. If the source is unknown, the entry's index takes its place."""
    key, value = "img", reference.source
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("img", "image"):
        key, value = next(iter(value.items()))
    elif value is None or not isinstance(value, str | int):
        value = position
    head = _json.encode({key: value})[:-1]
    return head + b',"embedding":' + _numbers(reference.values) + b"}"


async def _ndjson(session: AsyncSession, gallery: Gallery) -> AsyncIterator[bytes]:
    async for reference in stream_references(session, gallery):
        row: dict[str, Any] = {"person": reference.name}
        optional = {"external_id": reference.external_id, "source": reference.source, "metadata": reference.metadata}
        row |= {field: value for field, value in optional.items() if value not in (None, {})}
        head = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()  # integers of any size
        yield head[:-1] + b',"embedding":' + _numbers(reference.values) + b"}\n"


def _numbers(values: npt.NDArray[np.float64]) -> bytes:
    return _json.encode(values.tolist())
