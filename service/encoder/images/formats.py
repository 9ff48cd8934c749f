"""Image formats by their first bytes: those that are read, and the names of others for errors."""

from typing import Literal

Format = Literal["JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF", "AVIF", "HEIC"]
FORMATS = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF and HEIC"

_AVIF_BRANDS = frozenset([b"avif", b"avis"])
_HEIC_BRANDS = frozenset(
    [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"]  # HEVC in HEIF
)
_STARTS: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_OTHER_STARTS = (
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop document"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\1\0", "an icon"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "XML"),
    (b"<", "HTML or XML"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"RIFF", "a RIFF file (such as AVI or WAV)"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (b"{", "JSON"),
    (b"data:", "a data URI"),
)


def format_of(data: bytes) -> Format | None:
    """The format that the first bytes name, never the file name. None for a format that is not read."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return _format_of_container(data)
    return next((kind for start, kind in _STARTS if data.startswith(start)), None)


def describe(data: bytes) -> str:
    """A file that is not read, in words for the caller. Quotes nothing of its content."""
    if not data:
        return "empty"
    if data[4:8] == b"ftyp":
        return "a video (MP4 or MOV)"
    known = next((name for start, name in _OTHER_STARTS if data.lstrip()[:16].lower().startswith(start.lower())), None)
    return known or "of an unknown format"


def _format_of_container(data: bytes) -> Format | None:
    """The brands of an ISO base media file: the main brand, then those that it is compatible with."""
    length = min(int.from_bytes(data[:4], "big"), 4096)
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, length, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None
