"""Reads the structure of an image file without decoding it: its size, and how much work a decoder would have.

A limit on pixels does not bound the work of a decoder. A progressive JPEG is a series of scans, and each one goes over
all pixels: 0.28 MB below every limit kept a thread busy for 44 s. Segments, chunks and blocks that hold nothing cost
the parser as much as full ones. So this pass over the bytes comes before any decoder. It takes linear time, counts
what a decoder would repeat, and refuses counts that no camera, phone or editor writes:

- JPEG: libjpeg writes 10 scans for color and 18 for four components; optimizers try up to about 64. A file of 20 MiB
  with the longest segments has 320 before its first scan. Restart markers need no limit, because a decoder passes each
  of them once and makes nothing of it. Later scans are counted only if the first one leaves something out: else a
  decoder never reads them.
- PNG: encoders fill a chunk with 4 KiB to 64 KiB of pixels, and some write a chunk for each row.
- GIF: extensions before the first frame hold a comment, a color profile or XMP: some hundred blocks of 255 bytes.
- TIFF: a list of strips or tiles has one entry for a row of pixels at most, and strips do not overlap.
- WebP: an animation has a chunk for each frame.

AVIF and HEIC have no repeated parts of this kind; their declared size is read, and the rest is left to the limits of
the process that decodes them.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

from service.encoder.images.formats import Format
from service.errors import UnreadableImage

MAXIMUM_SCANS: Final = 100
MAXIMUM_SEGMENTS: Final = 1000
MAXIMUM_RESOURCE_BLOCKS: Final = 5000
"""Of Photoshop, in the segments before the first scan. The parser of each is written in Python."""
MAXIMUM_FILLING_BYTES: Final = 65_536
"""Bytes between the segments of a JPEG."""
MAXIMUM_CHUNKS: Final = 2000
BYTES_PER_CHUNK: Final = 512
"""A PNG may have MAXIMUM_CHUNKS, and one more for each of these bytes. A WebP likewise."""
MAXIMUM_BLOCKS: Final = 4096
MAXIMUM_ENTRIES: Final = 500_000
"""Numbers in the directory of a TIFF: two for each strip or tile. 50 megapixels in tiles of 16 x 16 have 390,000."""
MAXIMUM_OVERLAP: Final = 2
"""How often the strips of a TIFF may cover the bytes of the file."""

_CODINGS: Final = frozenset({1, 5, 8, 32773, 32946})
"""Compressions of TIFF whose work is bounded by bytes and pixels: none, LZW, Deflate, PackBits."""
_SLOW_SCANS: Final = 4
"""An arithmetic-coded scan takes about as long as four others."""
_PNG_PASSES: Final = 4
_WEBP_PASSES: Final = 6
"""The work for a pixel, in scans of a JPEG; measured at 48 megapixels."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH: Final = frozenset(range(0xC0)) | {0xD8, 0xD9}
_NEXT_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # neither stuffing nor filling nor a restart
_SIZE_PROPERTY: Final = re.compile(rb"ispe")


@dataclass(frozen=True)
class Structure:
    """Width and height as stored, and how often a decoder goes over all pixels. `is_usual` is False for a coding whose
    work is not bounded by bytes and pixels.
    """

    width: int
    height: int
    passes: int = 1
    is_usual: bool = True

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def read_structure(data: bytes, kind: Format) -> Structure:
    """The structure of a file of that format. Raises UnreadableImage if it is damaged, or if it has more parts than an
    image needs.
    """
    try:
        return _READERS[kind](data)
    except (struct.error, IndexError, OverflowError):
        raise UnreadableImage("the image is cut off in its header") from None


def _at_most(count: int, most: int, what: str) -> None:
    if count > most:
        raise UnreadableImage(f"it has more than {most} {what}, which no image needs")


def _jpeg(data: bytes) -> Structure:
    frame, first_scan = _jpeg_head(data)
    kind, height, width, components = frame
    in_first_scan = data[first_scan + 4]
    is_single = kind not in _PROGRESSIVE and in_first_scan >= components
    scans = 1 if is_single else _count_scans(data, first_scan)
    return Structure(width, height, scans * (_SLOW_SCANS if kind >= 0xC9 else 1))


def _jpeg_head(data: bytes) -> tuple[tuple[int, int, int, int], int]:
    """The frame (its kind, height, width and components), and the place of the first scan."""
    position, segments, filling = 2, 0, 0
    frame: tuple[int, int, int, int] | None = None
    blocks = 0
    while True:
        found = _NEXT_MARKER.search(data, position)
        if found is None:
            raise UnreadableImage("the image is cut off in its header")
        filling += found.start() - position
        place, marker = found.start(), data[found.start() + 1]
        _at_most(filling, MAXIMUM_FILLING_BYTES, "bytes between its segments")
        _at_most(segments := segments + 1, MAXIMUM_SEGMENTS, "segments")
        if marker == 0xDA and frame is not None:
            return frame, place
        if marker in _FRAMES:
            frame = (marker, *struct.unpack_from(">HHB", data, place + 5))
        position = _after(data, place)
        if marker == 0xED:
            _at_most(blocks := blocks + data.count(b"8BIM", place, position), MAXIMUM_RESOURCE_BLOCKS, "blocks")


def _count_scans(data: bytes, position: int) -> int:
    """Scans from the first one to the end mark, as a decoder finds them: it passes over the content of segments."""
    scans = segments = 0
    while (found := _NEXT_MARKER.search(data, position)) is not None and data[found.start() + 1] != 0xD9:
        place, marker = found.start(), data[found.start() + 1]
        _at_most(segments := segments + 1, MAXIMUM_SEGMENTS, "segments")
        _at_most(scans := scans + (marker == 0xDA), MAXIMUM_SCANS, "scans")
        position = _after(data, place)
    return max(1, scans)


def _after(data: bytes, place: int) -> int:
    """The place behind the segment of the marker at `place`."""
    if data[place + 1] in _WITHOUT_LENGTH:
        return place + 2
    return place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")


def _png(data: bytes) -> Structure:
    most = MAXIMUM_CHUNKS + len(data) // BYTES_PER_CHUNK
    position, chunks = 8, 0
    while position + 8 <= len(data):
        _at_most(chunks := chunks + 1, most, "chunks")
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    width, height, depth, _, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    return Structure(width, height, _PNG_PASSES * (2 if depth == 16 else 1) * (2 if interlaced else 1))


def _webp(data: bytes) -> Structure:
    """https://developers.google.com/speed/webp/docs/riff_container."""
    most = MAXIMUM_CHUNKS + len(data) // BYTES_PER_CHUNK
    position, chunks = 12, 0
    while position + 8 <= len(data):
        _at_most(chunks := chunks + 1, most, "chunks")
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
    return Structure(*_webp_size(data), _WEBP_PASSES)


def _webp_size(data: bytes) -> tuple[int, int]:
    kind, payload = data[12:16], data[20:30]
    if len(payload) < 10:
        raise UnreadableImage("the image is cut off in its header")
    if kind == b"VP8X":
        return (1 + int.from_bytes(payload[4:7], "little"), 1 + int.from_bytes(payload[7:10], "little"))
    if kind == b"VP8L":
        bits = int.from_bytes(payload[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", payload[6:10])
    return width & 0x3FFF, height & 0x3FFF


def _bmp(data: bytes) -> Structure:
    """Run lengths (compression 1 and 2) are decoded in Python, one run after the other."""
    if struct.unpack_from("<I", data, 14)[0] == 12:  # the header of OS/2
        return Structure(*struct.unpack_from("<HH", data, 18))
    width, height = struct.unpack_from("<ii", data, 18)
    return Structure(abs(width), abs(height), is_usual=struct.unpack_from("<I", data, 30)[0] not in (1, 2))


def _gif(data: bytes) -> Structure:
    """The screen, or the first frame if it reaches beyond. Only blocks before the first frame are counted."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position, blocks = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0
    while position < len(data) and data[position] != 0x3B:
        if data[position] == 0x2C:
            left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
            return Structure(max(width, left + frame_width), max(height, top + frame_height))
        _at_most(blocks := blocks + 1, MAXIMUM_BLOCKS, "blocks before its first frame")
        if data[position] != 0x21:
            position += 1
            continue
        position += 2
        while position < len(data) and data[position]:
            _at_most(blocks := blocks + 1, MAXIMUM_BLOCKS, "blocks before its first frame")
            position += 1 + data[position]
        position += 1
    return Structure(width, height)


_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one number, by its type in the directory of a TIFF."""
_WIDTH, _HEIGHT, _COMPRESSION, _LENGTHS, _TILE_LENGTHS = 256, 257, 259, 279, 325


def _tiff(data: bytes) -> Structure:
    """The first directory. The numbers of a directory are read as objects of Python, so they are counted first."""
    order = "<" if data[:1] == b"I" else ">"
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    place = struct.unpack_from(f"{order}Q" if is_big else f"{order}I", data, 8 if is_big else 4)[0]
    count = struct.unpack_from(f"{order}Q" if is_big else f"{order}H", data, place)[0]
    _at_most(count, MAXIMUM_ENTRIES, "entries in its directory")
    form, step = (f"{order}HHQ", 20) if is_big else (f"{order}HHI", 12)
    place += 8 if is_big else 2
    values, numbers = dict.fromkeys((_WIDTH, _HEIGHT, _COMPRESSION), 1), count
    for entry in range(place, place + count * step, step):
        tag, kind, length = struct.unpack_from(form, data, entry)
        numbers += 0 if kind in (1, 2, 6, 7) else length  # bytes and text are read as they are
        _at_most(numbers, MAXIMUM_ENTRIES, "numbers in its directory")
        value = entry + step - (8 if is_big else 4)
        if tag in values:
            values[tag] = _number(data, order, kind, value)
        if tag in (_LENGTHS, _TILE_LENGTHS) and length > 1:
            _check_overlap(
                data, order, kind, length, struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, value)[0]
            )
    return Structure(values[_WIDTH], values[_HEIGHT], is_usual=values[_COMPRESSION] in _CODINGS)


def _number(data: bytes, order: str, kind: int, place: int) -> int:
    return int(struct.unpack_from(order + {1: "B", 3: "H", 16: "Q"}.get(kind, "I"), data, place)[0])


def _check_overlap(data: bytes, order: str, kind: int, count: int, place: int) -> None:
    """The decoder reads the bytes of each strip, also if many strips name the same bytes."""
    size = _SIZES.get(kind, 4)
    if count * size <= 4:  # the numbers stand in the entry itself, and can name no more than a few strips
        return
    letter = {2: "H", 8: "Q"}.get(size, "I")
    covered = sum(struct.unpack_from(f"{order}{count}{letter}", data, place))
    _at_most(covered, MAXIMUM_OVERLAP * len(data), "bytes in its strips")


def _container(data: bytes) -> Structure:
    """The largest size that a property of an AVIF or HEIC file declares; nothing is decoded if there is none."""
    head = data[:65_536]
    places = [found.end() for found in _SIZE_PROPERTY.finditer(head)]
    sizes = [struct.unpack_from(">II", head, place + 4) for place in places if place + 12 <= len(head)]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(1, 1))
    return Structure(width, height, is_usual=False)


_READERS: Final = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WebP": _webp,
    "BMP": _bmp,
    "GIF": _gif,
    "TIFF": _tiff,
    "AVIF": _container,
    "HEIC": _container,
}
