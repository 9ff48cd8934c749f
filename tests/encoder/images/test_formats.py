"""GIF, TIFF, AVIF and HEIC: pixels like those of other formats, within the same limits; and other files by name."""

import importlib.util
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from service.encoder.images.decode import ImageLimits, decode_image
from service.encoder.images.decoder_pool import close_decoders
from service.encoder.images.formats import FORMATS
from service.errors import ImageTooLarge, ServiceError, UnreadableImage, UnsupportedImageFormat
from tests.encoder.images.test_decode import colors, saved
from tests.support import heic
from tests.support.encoders import LIMITS

needs_heic = pytest.mark.skipif(
    importlib.util.find_spec("pi_heif") is None, reason="left out: the extra heic (pi-heif) is not installed"
)


@needs_heic
@pytest.mark.parametrize("file", [heic.COLORS, heic.TURNED], ids=["stored upright", "stored turned"])
def test_a_heic_is_decoded_to_upright_rgb(file: bytes) -> None:
    decoded = decode_image(file, LIMITS)
    assert decoded.shape == (20, 40, 3)
    for (row, column), color in {(4, 9): (255, 0, 0), (4, 30): (0, 255, 0), (15, 9): (0, 0, 255)}.items():
        assert np.allclose(decoded[row, column], color, atol=12)


@needs_heic
def test_transparent_pixels_of_a_heic_become_white() -> None:
    assert decode_image(heic.CLEAR, LIMITS).min() == 255


@needs_heic
def test_a_heic_of_more_pixels_than_allowed_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="40 x 20 pixels"):
        decode_image(heic.COLORS, ImageLimits(bytes=10**6, pixels=799))


def test_without_the_extra_a_heic_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnsupportedImageFormat, match=r"HEIC.*pip install 'face-identity-service\[heic\]'"):
        decode_image(heic.COLORS, LIMITS)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "AVIF"])
def test_an_animation_gives_its_first_frame(format: str) -> None:
    black = Pillow.new("RGB", (40, 20))
    data = saved(colors(), format, save_all=True, append_images=[black, black])
    assert np.allclose(decode_image(data, LIMITS)[4, 9], (255, 0, 0), atol=12)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B"])
def test_each_mode_of_tiff_is_decoded_to_rgb(mode: str) -> None:
    white: Any = {"1": 1, "RGB": (255, 255, 255), "RGBA": (255,) * 4, "LA": (255, 255), "CMYK": (0,) * 4}.get(mode, 255)
    image = Pillow.new(mode, (8, 6), (255, 128, 128) if mode == "YCbCr" else 65535 if mode[0] == "I" else white)
    if mode == "P":
        image.putpalette([255, 255, 255] * 256)
    for compression in (None, "tiff_lzw", "tiff_deflate"):
        decoded = decode_image(saved(image, "TIFF", compression=compression), LIMITS)
        assert (decoded.shape, bool(decoded.min() >= 254)) == ((6, 8, 3), True), compression


@pytest.mark.parametrize("format", ["GIF", "TIFF", "AVIF"])
def test_transparent_pixels_of_each_format_become_white(format: str) -> None:
    assert decode_image(saved(Pillow.new("RGBA", (16, 16), (0, 0, 0, 0)), format), LIMITS).min() == 255


def test_a_tiff_with_tiles_larger_than_the_allowed_image_is_refused() -> None:
    """The decoder allocates a whole tile, here of 3 gigabytes for an image of 40 x 20 pixels."""
    data = bytearray(saved(colors(), "TIFF"))
    place = data.index(struct.pack("<HHI", 278, 4, 1)) if struct.pack("<HHI", 278, 4, 1) in data else -1
    assert place > 0
    data[place : place + 12] = struct.pack("<HHII", 322, 4, 1, 60_000)
    with pytest.raises(ImageTooLarge, match="60000 x 1 pixels"):
        decode_image(bytes(data), ImageLimits(bytes=10**6, pixels=10_000))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="left out: the limit of memory works on Linux only")
def test_a_decoder_is_bounded_in_memory_whatever_the_header_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header claims 64 x 64 pixels, but 6000 x 6000 are coded. Without the limit the decoder takes 80 MB."""
    side = struct.pack(">II", 6000, 6000)
    data = saved(Pillow.new("RGB", (6000, 6000), (90, 90, 90)), "AVIF", speed=10)
    assert data.count(side) == 1
    with pytest.raises((ImageTooLarge, UnreadableImage)):
        decode_image(data.replace(side, struct.pack(">II", 64, 64)), ImageLimits(bytes=10**6, pixels=-15_000_000))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "empty"),
        (b"hello, this is text", "of an unknown format"),
        (b"%PDF-1.7", "a PDF document"),
        (b"RIFF1234WAVE", "a RIFF file"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"  <!DOCTYPE html>", "HTML"),
        (b"data:image/jpeg;base64,AAAA", "a data URI"),
    ],
)
def test_the_error_names_the_file_and_what_is_taken(data: bytes, name: str) -> None:
    with pytest.raises(UnsupportedImageFormat) as caught:
        decode_image(data, LIMITS)
    assert caught.value.detail.startswith(f"the file is {name}")
    assert FORMATS in caught.value.detail


def test_every_format_that_is_taken_stands_in_the_title_and_in_the_documentation() -> None:
    page = " ".join(Path(__file__).parents[3].joinpath("docs", "http-api.md").read_text().split())
    assert FORMATS.replace(" and ", " or ") in UnsupportedImageFormat("").title
    assert FORMATS in page, "docs/http-api.md"


def good_files() -> dict[str, bytes]:
    small = colors()
    files = {format: saved(small, format) for format in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")}
    files["TIFF of LZW"] = saved(small, "TIFF", compression="tiff_lzw")
    files["TIFF of JPEG"] = saved(small, "TIFF", compression="jpeg")
    return files | {"HEIC": heic.COLORS}


GOOD_FILES = good_files()


@pytest.mark.parametrize("format", GOOD_FILES)
def test_a_damaged_file_of_each_format_gives_pixels_or_a_clear_error(format: str) -> None:
    good = GOOD_FILES[format]
    is_apart = format in {"AVIF", "HEIC"}  # each of these costs a process

    @given(
        end=st.integers(4, len(good)) | st.just(len(good)),
        changes=st.lists(st.tuples(st.integers(4, len(good) - 1), st.integers(0, 255)), max_size=4),
    )
    @settings(max_examples=15 if is_apart else 80, deadline=None, suppress_health_check=list(HealthCheck))
    @example(end=len(good) // 2, changes=[])
    def damaged(end: int, changes: list[tuple[int, int]]) -> None:
        data = bytearray(good)
        for place, value in changes:
            data[place] = value
        try:
            pixels = decode_image(bytes(data[:end]), LIMITS)
        except ServiceError as error:
            assert error.status in {413, 415, 422}, error  # noqa: PT017 - either outcome is right, a third is not
            assert error.detail  # noqa: PT017
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape[2:] == (3,)

    damaged()


def test_a_decoder_that_crashes_is_a_damaged_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crash = tmp_path / "crash.py"
    close_decoders()
    crash.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr("service.encoder.images.decoder_pool.PROGRAM", [sys.executable, str(crash)])
    with pytest.raises(UnreadableImage, match="damaged"):
        decode_image(GOOD_FILES["AVIF"], LIMITS)
