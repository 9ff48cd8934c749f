"""Decoding: files become upright RGB pixels, and files that are refused are refused before they are decoded."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from service.encoder.images.decode import ImageLimits, decode_image
from service.errors import ImageTooLarge, ServiceError, UnreadableImage, UnsupportedImageFormat
from service.settings import Settings
from tests.support.encoders import LIMITS

PNG_HEADER = b"\x89PNG\r\n\x1a\n"


def saved(image: Pillow.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def colors() -> Pillow.Image:
    """An image whose four corners differ: red, green, blue, white."""
    image = Pillow.new("RGB", (40, 20), (255, 0, 0))
    image.paste((0, 255, 0), (20, 0, 40, 10))
    image.paste((0, 0, 255), (0, 10, 20, 20))
    image.paste((255, 255, 255), (20, 10, 40, 20))
    return image


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
def test_each_format_is_decoded_to_rgb(format: str) -> None:
    decoded = decode_image(saved(colors(), format), LIMITS)
    assert decoded.shape == (20, 40, 3)
    assert decoded.dtype == np.uint8
    assert np.allclose(decoded[4, 9], (255, 0, 0), atol=12)
    assert np.allclose(decoded[15, 30], (255, 255, 255), atol=12)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_each_mode_of_png_is_decoded_to_rgb(mode: str) -> None:
    white: Any = {"1": 1, "L": 255, "LA": (255, 255), "P": 255, "RGBA": (255, 255, 255, 255), "I;16": 65535}[mode]
    image = Pillow.new(mode, (8, 6), white)
    if mode == "P":
        image.putpalette([255, 255, 255] * 256)
    decoded = decode_image(saved(image), LIMITS)
    assert decoded.shape == (6, 8, 3)
    assert decoded.min() >= 254


def test_sixteen_bit_gray_is_scaled_and_not_clipped() -> None:
    image = Pillow.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16))
    assert decode_image(saved(image), LIMITS)[0, 0].tolist() == [128, 128, 128]


def test_sixteen_bit_color_is_scaled() -> None:
    rows = b"".join(b"\0" + struct.pack(">3H", 0xFFFF, 0x8000, 0) * 2 for _ in range(2))
    file = PNG_HEADER + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    file += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert decode_image(file, LIMITS)[1, 1].tolist() == [255, 128, 0]


def test_transparent_pixels_become_white() -> None:
    assert decode_image(saved(Pillow.new("RGBA", (4, 4), (0, 0, 0, 0))), LIMITS).min() == 255
    palette = Pillow.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30])
    assert decode_image(saved(palette, transparency=0), LIMITS).min() == 255
    color = Pillow.new("RGB", (4, 4), (10, 20, 30))
    assert decode_image(saved(color, transparency=(10, 20, 30)), LIMITS).min() == 255


def test_cmyk_jpeg_keeps_its_colors() -> None:
    decoded = decode_image(saved(colors().convert("CMYK"), "JPEG", quality=95), LIMITS)
    assert np.allclose(decoded[4, 9], (255, 0, 0), atol=40)
    assert np.allclose(decoded[15, 30], (255, 255, 255), atol=12)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_jpegs_have_exactly_the_pixels_that_pillow_decodes(mode: str) -> None:
    """OpenCV rounds the colors of CMYK differently, so such a file must not take the short way through OpenCV."""
    noise = Pillow.fromarray(np.random.default_rng(1).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    data = saved(noise.convert(mode), "JPEG", quality=95)
    assert np.array_equal(decode_image(data, LIMITS), np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")))


TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, 1),
    7: lambda pixels: pixels.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda pixels: np.rot90(pixels, 3),
}
"""How a camera stores an upright image under each orientation (EXIF 2.3, tag 0x0112)."""


def turned_file(pixels: np.ndarray, orientation: int, format: str = "PNG", **options: object) -> bytes:
    """An upright image that is stored turned, with its orientation in EXIF."""
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    stored = Pillow.fromarray(np.ascontiguousarray(TURNS[orientation](pixels)))
    return saved(stored, format, exif=exif.tobytes(), **options)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_of_every_exif_orientation_is_turned_upright(orientation: int, format: str) -> None:
    upright = np.asarray(colors())
    options = {"lossless": True} if format == "WEBP" else {"quality": 95} if format in {"JPEG", "AVIF"} else {}
    decoded = decode_image(turned_file(upright, orientation, format, **options), LIMITS)
    assert decoded.shape == upright.shape
    assert np.abs(decoded[4:16:11, 4:36:31].astype(int) - upright[4:16:11, 4:36:31]).max() < 20


def test_an_unknown_orientation_changes_nothing() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 77
    assert decode_image(saved(colors(), exif=exif.tobytes()), LIMITS).shape == (20, 40, 3)


def test_a_file_of_more_bytes_than_allowed_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="at most 100 "):
        decode_image(saved(colors(), "BMP"), ImageLimits(bytes=100, pixels=10**6))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
@pytest.mark.parametrize("lossless", [False, True])
def test_an_image_of_more_pixels_than_allowed_is_refused(format: str, lossless: bool) -> None:
    data = saved(colors(), format, lossless=lossless)
    with pytest.raises(ImageTooLarge, match="40 x 20 pixels"):
        decode_image(data, ImageLimits(bytes=10**6, pixels=799))
    assert decode_image(data, ImageLimits(bytes=10**6, pixels=800)).shape == (20, 40, 3)


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def flat_png(side: int) -> bytes:
    """A black gray PNG, made row by row."""
    packer = zlib.compressobj(6)
    rows = b"".join([packer.compress(bytes(side + 1) * 100) for _ in range(side // 100)]) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return PNG_HEADER + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


MEASURE = """
import resource, sys
from service.encoder.images.decode import ImageLimits, decode_image
from service.errors import ImageTooLarge
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_image(data, ImageLimits(20 * 2**20, 40_000_000))
except ImageTooLarge as error:
    print(error.detail, "|", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_png_of_400_megapixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(flat_png(20_000))
    assert bomb.stat().st_size < 600_000
    ran = subprocess.run([sys.executable, "-c", MEASURE, bomb], capture_output=True, text=True, check=True)
    detail, growth_kib = ran.stdout.split("|")
    assert "20000 x 20000 pixels" in detail
    assert int(growth_kib) < 10_000
    assert not ran.stderr


WEBP_HEADERS = {
    "lossy": b"VP8 " + bytes(4) + bytes(6) + struct.pack("<HH", 40, 20),
    "lossless": b"VP8L" + bytes(4) + b"\x2f" + struct.pack("<I", 39 | 19 << 14) + bytes(5),
    "extended": b"VP8X" + bytes(4) + bytes(4) + (39).to_bytes(3, "little") + (19).to_bytes(3, "little"),
}
"""The three kinds of WebP, each with a size of 40 x 20 pixels and without the content that should follow."""


@pytest.mark.parametrize("kind", WEBP_HEADERS)
def test_a_webp_with_too_many_pixels_is_refused_by_its_header_alone(kind: str) -> None:
    """The WebP decoder allocates all pixels when a file is opened. So the size has to be checked before."""
    file = b"RIFF" + bytes(4) + b"WEBP" + WEBP_HEADERS[kind]
    with pytest.raises(ImageTooLarge, match="40 x 20 pixels, at most 799 are allowed"):
        decode_image(file, ImageLimits(bytes=10**6, pixels=799))
    with pytest.raises(UnreadableImage):
        decode_image(file, ImageLimits(bytes=10**6, pixels=800))


DECODE_WITH_LITTLE_MEMORY = """
import resource, sys
from service.encoder.images.decode import ImageLimits, decode_image
data = open(sys.argv[1], "rb").read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 10_000_000, resource.RLIM_INFINITY))
try:
    decode_image(data, ImageLimits(20 * 2**20, 40_000_000))
except MemoryError:
    print("out of memory")
"""


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(),
    reason="left out: the memory limit of a process works on Linux only, and its use is read from /proc/self/statm",
)
def test_a_lack_of_memory_is_not_reported_as_a_damaged_image(tmp_path: Path) -> None:
    """A client that gets "damaged" throws the file away. A MemoryError becomes a 500, and the client may retry."""
    image = tmp_path / "image.png"
    image.write_bytes(flat_png(6000))
    ran = subprocess.run(
        [sys.executable, "-c", DECODE_WITH_LITTLE_MEMORY, image], capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("out of memory\n", "")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_truncated_file_is_refused(format: str) -> None:
    data = saved(Pillow.effect_noise((60, 40), 90).convert("RGB"), format)
    for end in (*range(20, 120, 7), len(data) // 3, len(data) // 2, len(data) - 40):
        with pytest.raises(UnreadableImage):
            decode_image(data[:end], LIMITS)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_jpeg_that_lacks_only_its_end_mark_has_all_its_pixels(quality: int, progressive: bool) -> None:
    file = io.BytesIO()
    Pillow.effect_noise((61, 43), 90).convert("RGB").save(file, "JPEG", quality=quality, progressive=progressive)
    data = file.getvalue()
    assert data.endswith(b"\xff\xd9")
    for missing in (1, 2):
        assert np.array_equal(decode_image(data[:-missing], LIMITS), decode_image(data, LIMITS))
    for missing in (10, 50, len(data) // 2):
        with pytest.raises(UnreadableImage, match="cut off"):
            decode_image(data[:-missing], LIMITS)


@pytest.mark.parametrize("data", [b"", b"hello, this is text", b"%PDF-1.7", b"RIFF1234WAVE"])
def test_a_file_of_another_format_is_refused_as_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedImageFormat):
        decode_image(data, LIMITS)


def test_a_file_with_changed_bytes_gives_pixels_or_an_error_of_the_service() -> None:
    random = np.random.default_rng(1)
    for format in ("JPEG", "PNG", "WEBP", "BMP"):
        good = saved(colors(), format)
        for _ in range(150):
            data = bytearray(good)
            for place in random.integers(4, len(good), 3):
                data[place] = random.integers(256)
            try:
                decode_image(bytes(data), LIMITS)
            except ServiceError as error:
                assert error.status in {413, 415, 422}, error  # noqa: PT017 - either outcome is right, a third is not


def test_the_default_limit_takes_a_photograph_of_48_megapixels() -> None:
    """Phones make 8064 x 6048 pixels."""
    file = io.BytesIO()
    Pillow.new("RGB", (8064, 6048), (90, 120, 150)).save(file, "JPEG", quality=30)
    limits = ImageLimits(*(Settings.model_fields[f"maximum_image_{name}"].default for name in ("bytes", "pixels")))
    assert decode_image(file.getvalue(), limits, reduction=8).shape == (756, 1008, 3)
