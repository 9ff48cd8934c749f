"""Image files that cost a decoder or a parser far more than their size. Each is small and below every limit."""

import io
import struct
import zlib

from PIL import Image as Pillow


def jpeg_of_scans(scans: int, width: int = 40, height: int = 24) -> bytes:
    """A progressive JPEG, gray, whose first scan is followed by others that refine nothing."""
    file = io.BytesIO()
    Pillow.new("L", (width, height), 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    first = data.index(b"\xff\xda")
    end = data.index(b"\xff", first + 10)
    table = (
        b"\xff\xc4" + struct.pack(">HB", 19 + 1, 0x10) + bytes([1, *[0] * 15]) + b"\xe0"
    )  # one code: a run of blocks
    blocks = -(-width // 8) * -(-height // 8)
    runs = -(-blocks // 16384)
    bits = "".join("0" + "1" * 14 for _ in range(runs))
    content = int(bits.ljust(-(-len(bits) // 8) * 8, "1"), 2).to_bytes(-(-len(bits) // 8), "big")
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0x00, 1, 63, 0x00) + content.replace(b"\xff", b"\xff\0")
    return data[:end] + table + scan * (scans - 1) + b"\xff\xd9"


def jpeg_of_segments(segments: int) -> bytes:
    """A JPEG with that many empty comments before its frame."""
    file = io.BytesIO()
    Pillow.new("RGB", (40, 20)).save(file, "JPEG")
    return b"\xff\xd8" + b"\xff\xfe\0\2" * segments + file.getvalue()[2:]


def jpeg_of_filling(bytes_: int, filling: bytes = b"\xff") -> bytes:
    """A JPEG with bytes between two segments that belong to none."""
    file = io.BytesIO()
    Pillow.new("RGB", (40, 20)).save(file, "JPEG")
    return b"\xff\xd8" + filling * bytes_ + file.getvalue()[2:]


def jpeg_of_resource_blocks(blocks: int) -> bytes:
    """A JPEG with that many empty blocks of Photoshop."""
    file = io.BytesIO()
    Pillow.new("RGB", (40, 20)).save(file, "JPEG")
    block = b"8BIM" + struct.pack(">HBBI", 0x0400, 0, 0, 0)
    content = b"Photoshop 3.0\0" + block * 5000
    segment = b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    return b"\xff\xd8" + segment * -(-blocks // 5000) + file.getvalue()[2:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_chunks(chunks: int) -> bytes:
    """A PNG whose pixels are preceded by empty chunks of pixels."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 20, 8, 2, 0, 0, 0))
    rows = _chunk(b"IDAT", zlib.compress(bytes(20 * 121)))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", b"") * chunks + rows + _chunk(b"IEND", b"")


def gif_of_blocks(blocks: int) -> bytes:
    """A GIF with a comment of blocks of one byte."""
    file = io.BytesIO()
    Pillow.new("P", (40, 20)).save(file, "GIF")
    data = file.getvalue()
    place = data.index(b"\x2c", 13 + 3 * (2 << (data[10] & 7)))
    return data[:place] + b"\x21\xfe" + b"\1x" * blocks + b"\0" + data[place:]


def webp_of_chunks(chunks: int) -> bytes:
    """A WebP with that many empty chunks of an unknown kind."""
    file = io.BytesIO()
    Pillow.new("RGB", (40, 20)).save(file, "WEBP", exif=b"Exif\0\0")
    data = file.getvalue() + b"NONE\0\0\0\0" * chunks
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def tiff_of_strips(strips: int, *, overlapping: bool = False) -> bytes:
    """A TIFF whose directory lists that many strips, of one byte each or all of the whole file."""
    entries = 6
    arrays = 8 + 2 + 12 * entries + 4
    length = arrays + 8 * strips
    each = length if overlapping else 1
    fields = [(256, 4, 1, 40), (257, 4, 1, strips), (259, 3, 1, 1), (273, 4, strips, arrays)]
    fields += [(278, 4, 1, 1), (279, 4, strips, arrays + 4 * strips)]
    directory = struct.pack("<H", entries) + b"".join(struct.pack("<HHII", *field) for field in fields) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4 * strips) + struct.pack("<I", each) * strips


def bmp_of_runs(runs: int) -> bytes:
    """A BMP of runs of no pixels: its decoder is written in Python."""
    side = 4000
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 2 * runs, 0, 0, 256, 0)
    content = head + bytes(1024) + b"\0\2\0\0" * runs
    return b"BM" + struct.pack("<IHHI", 14 + len(content), 0, 0, 14 + 40 + 1024) + content
