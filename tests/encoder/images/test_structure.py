"""Files that repeat parts without end are refused before a decoder reads them; files that others write are not."""

import io
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from service.encoder.images.decode import decode_here, decode_image
from service.encoder.images.formats import Format, format_of
from service.encoder.images.structure import (
    MAXIMUM_BLOCKS,
    MAXIMUM_CHUNKS,
    MAXIMUM_ENTRIES,
    MAXIMUM_FILLING_BYTES,
    MAXIMUM_RESOURCE_BLOCKS,
    MAXIMUM_SCANS,
    MAXIMUM_SEGMENTS,
    read_structure,
)
from service.errors import ImageTooLarge, UnreadableImage
from tests.encoder.images.test_decode import colors, saved
from tests.encoder.images.test_formats import GOOD_FILES
from tests.support import bombs
from tests.support.encoders import LIMITS

Make = Callable[[int], bytes]


@pytest.mark.parametrize(
    ("make", "most", "parts"),
    [
        (bombs.jpeg_of_scans, MAXIMUM_SCANS, "scans"),
        (bombs.jpeg_of_segments, MAXIMUM_SEGMENTS, "segments"),
        (bombs.jpeg_of_filling, MAXIMUM_FILLING_BYTES, "bytes between its segments"),
        (bombs.jpeg_of_resource_blocks, MAXIMUM_RESOURCE_BLOCKS, "blocks"),
        (bombs.png_of_chunks, 2 * MAXIMUM_CHUNKS, "chunks"),
        (bombs.gif_of_blocks, MAXIMUM_BLOCKS, "blocks before its first frame"),
        (bombs.webp_of_chunks, 2 * MAXIMUM_CHUNKS, "chunks"),
        (bombs.tiff_of_strips, MAXIMUM_ENTRIES, "numbers in its directory"),
    ],
)
def test_more_parts_than_an_image_needs_are_refused_before_a_decoder_reads_them(
    make: Make, most: int, parts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decode_image(make(3), LIMITS).size
    monkeypatch.setattr("service.encoder.images.decode.decode_here", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UnreadableImage, match=rf"more than \d+ {parts}, which no image needs"):
        decode_image(make(most + 1), LIMITS)


def test_strips_that_name_the_same_bytes_again_and_again_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="bytes in its strips"):
        decode_image(bombs.tiff_of_strips(1000, overlapping=True), LIMITS)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_scan_that_a_decoder_goes_over_is_counted(mode: str, progressive: bool) -> None:
    """libjpeg writes 6, 10 and 18 scans for one, three and four components. The scans of the thumbnail do not count."""
    thumbnail = saved(colors(), "JPEG", progressive=True)
    exif = Pillow.Exif()
    exif[0x927C] = thumbnail
    data = saved(colors().convert(mode), "JPEG", progressive=progressive, exif=exif.tobytes())
    assert data.count(b"\xff\xda") > 10
    expected = {"L": 6, "RGB": 10, "CMYK": 18}[mode] if progressive else 1
    assert read_structure(data, "JPEG").passes == expected


def test_scans_behind_the_end_mark_do_not_count() -> None:
    """Phones write a second image behind the first one."""
    data = bombs.jpeg_of_scans(20)
    assert read_structure(data + data, "JPEG").passes == 20


def test_scans_cannot_hide_behind_the_marks_that_have_no_length() -> None:
    data = bombs.jpeg_of_scans(40)
    first = data.index(b"\xff\xda")
    hidden = data[:first] + data[first:].replace(b"\xff\xc4", b"\xff\x01\xff\xc4")
    assert read_structure(hidden, "JPEG").passes == 40


@pytest.mark.parametrize("format", GOOD_FILES)
def test_the_size_of_the_structure_is_the_size_of_the_image(format: str) -> None:
    if format == "HEIC":
        pytest.importorskip("pi_heif", reason="left out: the extra heic (pi-heif) is not installed")
    data = GOOD_FILES[format]
    kind = format_of(data)
    assert kind is not None
    structure, (height, width, _) = read_structure(data, kind), decode_image(data, LIMITS).shape
    if kind == "HEIC":  # its size is that of whole blocks, before the image is cut out
        assert structure.height >= height
        assert structure.width >= width
    else:
        assert (structure.height, structure.width) == (height, width)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_either_byte_order_is_read(order: str) -> None:
    fields = [(256, 3, 1, 40), (257, 3, 1, 20), (259, 3, 1, 5)]
    data = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(fields))
    for tag, kind, count, value in fields:
        data += struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
    structure = read_structure(data, "TIFF")
    assert (structure.width, structure.height, structure.is_usual) == (40, 20, True)


def test_a_gif_whose_first_frame_reaches_beyond_its_screen_has_the_size_of_both() -> None:
    data = bytearray(saved(colors(), "GIF"))
    data[6:10] = struct.pack("<HH", 1, 1)
    structure = read_structure(bytes(data), "GIF")
    assert (structure.width, structure.height) == (40, 20)


def test_an_image_of_too_many_pixels_is_refused_by_its_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.encoder.images.decode.decode_here", lambda *_: pytest.fail("it was decoded"))
    file = io.BytesIO()
    Pillow.new("1", (20_000, 20_000)).save(file, "PNG")
    with pytest.raises(ImageTooLarge, match="20000 x 20000 pixels"):
        decode_image(file.getvalue(), LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF", "AVIF", "HEIC"])
@given(content=st.binary(max_size=300), starts_well=st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_bytes_have_a_structure_or_a_clear_error(kind: Format, content: bytes, starts_well: bool) -> None:
    good = GOOD_FILES.get({"WebP": "WEBP"}.get(kind, kind), b"")
    data = good[: len(good) // 2] + content if starts_well else content
    try:
        structure = read_structure(data, kind)
    except UnreadableImage as error:
        assert error.detail  # noqa: PT017 - either outcome is right, a third is not
    else:
        assert structure.passes >= 1


def test_a_progressive_photograph_of_a_phone_is_decoded_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.encoder.images.decode.decode_apart", lambda *_: pytest.fail("another process"))
    data = saved(Pillow.new("RGB", (4000, 3000), (90, 120, 150)), "JPEG", progressive=True)
    assert decode_image(data, LIMITS, reduction=8).shape == (375, 500, 3)
    assert decode_here(data, LIMITS, 8).shape == (375, 500, 3)
