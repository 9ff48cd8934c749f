"""Uploads as `multipart/form-data`, parsed as they arrive: every limit holds while reading, and nothing is written to
disk.

python-multipart could spool parts to temporary files. This file drives its parser by hand instead and keeps images in
memory: a temporary file would be biometric data at rest that nobody erases.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import ImageTooLarge, InvalidRequest
from service.http.base64_images import NO_ADDRESSES
from service.http.bodies import chunks
from service.identity.enroll import EnrollmentImage

MAXIMUM_FILE_NAME_LENGTH = 200
MAXIMUM_PARTS = 1000
"""Parts of any name: each costs processor time of the event loop, whether somebody reads it or not."""
OVERHEAD_BYTES = 1024 * 1024  # boundaries and headers, and enough of an oversized image to see that it is too large


@dataclass
class Part:
    """One part of a form while it arrives. `pieces` are taken out when they are used."""

    name: str
    file_name: str
    pieces: list[bytes] = field(default_factory=list)
    ended: bool = False


async def read_pictures(
    request: Request, *, image_bytes: int, total_bytes: int, least: int, most: int
) -> list[EnrollmentImage]:
    """The parts named `image` or `file`, `least` to `most` of them, in order.

    Raises ImageTooLarge for a part over `image_bytes`, PayloadTooLarge over `total_bytes` in all, and InvalidRequest
    for any other part or too few parts.
    """
    pictures: list[EnrollmentImage] = []
    data = bytearray()
    async for part in parts(request, total_bytes):
        if part.name in {"url", "image_url"}:
            raise InvalidRequest(f"{part.name}: {NO_ADDRESSES}")
        if part.name not in {"image", "file"}:
            raise InvalidRequest(f"unexpected part {part.name!r}; images are parts named 'image' or 'file'")
        if len(pictures) == most:
            raise InvalidRequest(f"more than {most} parts named 'image'")
        data += b"".join(part.pieces)
        part.pieces.clear()
        if len(data) > image_bytes:
            raise ImageTooLarge(
                f"{_shown(part, pictures)} is larger than {image_bytes} bytes",
                image=_shown(part, pictures),
                limit_bytes=image_bytes,
            )
        if part.ended:
            pictures.append(EnrollmentImage(_shown(part, pictures), bytes(data)))
            data.clear()
    if len(pictures) < least:
        raise InvalidRequest(f"{len(pictures)} parts named 'image', at least {least} are needed")
    return pictures


async def file_chunks(request: Request, limit_bytes: int) -> AsyncIterator[bytes]:
    """The content of the only file of a form, as it arrives. The caller keeps it on disk."""
    has_ended = False
    async for part in parts(request, limit_bytes + OVERHEAD_BYTES, "disk"):
        if has_ended:
            raise InvalidRequest("only one file is allowed")
        for piece in part.pieces:
            yield piece
        part.pieces.clear()
        has_ended = part.ended
    if not has_ended:
        raise InvalidRequest("the form holds no file")


async def parts(request: Request, limit_bytes: int, kept: Literal["memory", "disk"] = "memory") -> AsyncIterator[Part]:
    """Each part when data of it has arrived, and once more at its end."""
    form = _Form()
    parser = form.parser(request.headers.get("content-type", ""))
    try:
        async for chunk in chunks(request, limit_bytes, kept):
            parser.write(chunk)
            for part in form.arrived():
                yield part
        parser.finalize()
    except FormParserError:
        raise InvalidRequest("the body is not valid multipart/form-data") from None
    if not form.complete:
        raise InvalidRequest("the form ends before its last boundary")


def _shown(part: Part, before: list[EnrollmentImage]) -> str:
    return part.file_name or f"image {len(before) + 1}"


class _Form:
    """Callbacks of the parser. Holds parts until they are taken."""

    def __init__(self) -> None:
        self.complete = False
        self._waiting: list[Part] = []
        self._count = 0
        self._header = b""
        self._value = b""
        self._disposition = b""

    def parser(self, content_type: str) -> MultipartParser:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise InvalidRequest("Content-Type names no boundary")
        names = "part_begin", "part_data", "part_end", "header_field", "header_value", "header_end", "headers_finished"
        callbacks = {f"on_{name}": getattr(self, f"_{name}") for name in names} | {"on_end": self._end}
        try:
            return MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError:
            raise InvalidRequest("the boundary in Content-Type is too long") from None

    def arrived(self) -> list[Part]:
        """Parts with new data. A part stays until it has ended."""
        arrived = self._waiting
        self._waiting = [part for part in arrived if not part.ended]
        return arrived

    def _part_begin(self) -> None:
        self._count += 1
        if self._count > MAXIMUM_PARTS:
            raise InvalidRequest(f"the form has more than {MAXIMUM_PARTS} parts")
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        options = parse_options_header(self._disposition)[1]
        self._waiting.append(Part(_text(options.get(b"name", b"")), _text(options.get(b"filename", b""))))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._waiting[-1].pieces.append(data[start:end])

    def _part_end(self) -> None:
        self._waiting[-1].ended = True

    def _end(self) -> None:
        self.complete = True


def _text(raw: bytes) -> str:
    """A name in a printable form of bounded length."""
    text = raw.decode("utf-8", errors="replace")[:MAXIMUM_FILE_NAME_LENGTH]
    return "".join(character if character.isprintable() else "?" for character in text)
