"""Bytes of an upload to upright RGB pixels: what is taken, what is refused and before which work.

Sizes are read from the file's header, so nothing large is decoded before it is refused; EXIF orientation is applied.
"""

import io
import struct
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL import Image as Pillow
from PIL.ImageFile import ImageFile

from service.encoder.contract import Image
from service.errors import ImageTooLarge, UnreadableImage, UnsupportedImageFormat

_ORIENTATION_TAG: Final = 0x0112
_TURNS: Final = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}


_JPEG_FLAGS: Final = {
    1: cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_IGNORE_ORIENTATION,
}


@dataclass(frozen=True)
class ImageLimits:
    """The largest upload in bytes and the largest picture in pixels."""

    bytes: int
    pixels: int


def decode_image(data: bytes, limits: ImageLimits, reduction: int = 1) -> Image:
    """The upright picture, RGB, shape (height, width, 3).

    JPEG, PNG, WebP and BMP are told apart by their first bytes, never by a name; animations give their first frame.
    A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, rounded up; other formats have no `reduction`.
    Raises ImageTooLarge (before decoding), UnsupportedImageFormat or UnreadableImage.
    """
    if len(data) > limits.bytes:
        raise ImageTooLarge(f"{len(data)} bytes where at most {limits.bytes} are taken")
    opened = _open_header(data, limits)
    pixels = _usual_jpeg(data, opened, reduction)
    if pixels is not None:
        return pixels
    try:
        if reduction > 1:
            width, height = (max(1, side // reduction) for side in opened.size)
            opened.draft(opened.mode, (width, height))
        opened.load()
        return np.asarray(_as_rgb(_turned_upright(opened)))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise what they meet: OSError, SyntaxError, struct.error, zlib.error
        raise UnreadableImage(_reason(error)) from None


def _usual_jpeg(data: bytes, opened: ImageFile, reduction: int) -> Image | None:
    """A whole, upright JPEG in colors: OpenCV gives the very pixels that Pillow gives, in three quarters of the time.

    None for any other file, and where OpenCV has no answer: Pillow then finds what is wrong.
    """
    if not isinstance(opened, JpegImagePlugin.JpegImageFile) or opened.mode != "RGB" or _turn(opened) is not None:
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), _JPEG_FLAGS[reduction])
    except cv2.error:
        return None
    if pixels is None or reduction == 1:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))  # there is no flag for reduced RGB


def jpeg_size(data: bytes, limits: ImageLimits) -> tuple[int, int] | None:
    """The two sides of a JPEG as stored, from its header; None for another format. Raises as decode_image does."""
    if _plugin(data) is not JpegImagePlugin.JpegImageFile:
        return None
    return _open_header(data, limits).size


def _open_header(data: bytes, limits: ImageLimits) -> ImageFile:
    """The file with its header read and its size checked, nothing decoded yet."""
    plugin = _plugin(data)
    if plugin is WebPImagePlugin.WebPImageFile:
        _check_pixels(*_webp_size(data), limits)  # its decoder makes the canvas when it is opened
    try:
        opened = plugin(io.BytesIO(data))
    except Exception as error:
        raise UnreadableImage(_reason(error)) from None
    _check_pixels(*opened.size, limits)
    return opened


def _plugin(data: bytes) -> type[ImageFile]:
    """The decoder by the first bytes. It is called directly: Image.open has a limit of its own, which only warns."""
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if data.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    raise UnsupportedImageFormat("empty file" if not data else "the file begins like none of these formats")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP file (https://developers.google.com/speed/webp/docs/riff_container)."""
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


def _check_pixels(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.pixels:
        raise ImageTooLarge(f"{width} x {height} pixels where at most {limits.pixels} are taken")
    if width < 1 or height < 1:
        raise UnreadableImage("the image has no pixels")


def _turned_upright(opened: ImageFile) -> Pillow.Image:
    turn = _turn(opened)
    return opened if turn is None else opened.transpose(turn)


def _turn(opened: ImageFile) -> Pillow.Transpose | None:
    """What makes the picture upright; None where it is."""
    try:
        return _TURNS.get(opened.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a broken EXIF block says nothing about the pixels
        return None


def _as_rgb(picture: Pillow.Image) -> Pillow.Image:
    """Every mode that the four formats have as RGB; transparent pixels lie on white."""
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):  # 16 bits of grey, which convert() would clip instead of scaling
        grey = np.asarray(picture).astype(np.int64) >> 8
        return Pillow.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = Pillow.new("RGBA", layer.size, (255, 255, 255, 255))
        return Pillow.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def _reason(error: Exception) -> str:
    """Pillow's own words where they tell the caller something; never an object's address or a path."""
    text = str(error)
    if "truncated" in text or isinstance(error, EOFError | struct.error):
        return "the image is cut off before its end"
    return "its content is damaged"
