"""Decodes uploaded image files to upright RGB pixels, and refuses too large, damaged or unsupported files.

The size is read from the header, so a large image is refused before it is decoded. The EXIF orientation is applied.
"""

import importlib.util
import io
import struct
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)
from PIL import Image as Pillow
from PIL.ImageFile import ImageFile

from service.encoder.contract import Image
from service.encoder.images.decoder_process import decode_apart
from service.encoder.images.formats import FORMATS, Format, describe, format_of
from service.errors import ImageTooLarge, UnreadableImage, UnsupportedImageFormat

_ORIENTATION_TAG: Final = 0x0112
_TILE_WIDTH_TAG: Final = 322
_TILE_LENGTH_TAG: Final = 323
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


_END_OF_JPEG: Final = b"\xff\xd9"
_ENDS_TO_COMPARE: Final = tuple(filling * 64 + _END_OF_JPEG for filling in (b"", b"\x5a", b"\xa5", b"\x00"))


@dataclass(frozen=True)
class ImageLimits:
    """Largest upload in bytes, and largest image in pixels."""

    bytes: int
    pixels: int


def decode_image(data: bytes, limits: ImageLimits, reduction: int = 1) -> Image:
    """Decode to the upright image, RGB, shape (height, width, 3).

    The first bytes tell the format, never the file name: see `formats.FORMATS`. An animation gives its first frame. A
    JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, rounded up; other formats ignore `reduction`. Raises
    ImageTooLarge (before decoding), UnsupportedImageFormat or UnreadableImage.
    """
    if len(data) > limits.bytes:
        raise ImageTooLarge(f"{len(data)} bytes, at most {limits.bytes} are allowed")
    if (kind := format_of(data)) in {"AVIF", "HEIC"}:
        return _decode_apart(data, kind, limits)
    opened = _open_header(data, limits)
    pixels = _usual_jpeg(data, opened, reduction)
    if pixels is not None:
        return pixels
    try:
        return _decode(opened, reduction)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many classes: OSError, SyntaxError, struct.error, zlib.error
        mended = data.removesuffix(_END_OF_JPEG[:1]) + _END_OF_JPEG
        if _lacks_only_end_mark(data):
            return decode_image(mended, ImageLimits(len(mended), limits.pixels), reduction)
        raise UnreadableImage(_reason(error)) from None


def _decode_apart(data: bytes, kind: Format | None, limits: ImageLimits) -> Image:
    """Decode an AVIF or HEIC file in another process."""
    if kind == "AVIF" and not features.check("avif"):
        raise UnsupportedImageFormat("the file is an AVIF image, and this build of Pillow reads none")
    if kind == "HEIC" and importlib.util.find_spec("pi_heif") is None:
        raise UnsupportedImageFormat(
            "the file is a HEIC image; to read it, install the extra: pip install 'face-identity-service[heic]'"
        )
    answer = decode_apart(data, "AVIF" if kind == "AVIF" else "HEIF", limits.pixels)
    error = answer.get("error")
    if error == "large":
        width, height = answer["size"]
        check_pixels(width, height, limits)
    if error == "memory":
        raise ImageTooLarge(f"it takes more memory than an image of {limits.pixels} pixels")
    if error is not None:
        raise UnreadableImage("it takes too long to decode" if error == "time" else "its content is damaged")
    image = Pillow.frombytes(answer["mode"], tuple(answer["size"]), answer["data"])
    turn = _TURNS.get(answer["orientation"])
    return np.asarray(as_rgb(image if turn is None else image.transpose(turn)))


def _decode(opened: ImageFile, reduction: int = 1) -> Image:
    if reduction > 1:
        width, height = (max(1, side // reduction) for side in opened.size)
        opened.draft(opened.mode, (width, height))
    opened.load()
    return np.asarray(as_rgb(_turned_upright(opened)))


def _lacks_only_end_mark(data: bytes) -> bool:
    """Whether a JPEG has all its pixels and only its end mark is missing, as some cameras and copies leave it.

    The decoder fills missing pixels without an error once it sees an end mark. So the file is decoded with several
    fillings before an end mark: only missing pixels take their values from the filling.
    """
    if not data.startswith(b"\xff\xd8\xff") or data.endswith(_END_OF_JPEG):
        return False
    pixel_data = data.removesuffix(_END_OF_JPEG[:1])
    versions = (_decode(JpegImagePlugin.JpegImageFile(io.BytesIO(pixel_data + end))) for end in _ENDS_TO_COMPARE)
    try:
        first = next(versions)
        return all(np.array_equal(first, other) for other in versions)  # decodes no more after the first difference
    except MemoryError:
        raise
    except Exception:
        return False


def _usual_jpeg(data: bytes, opened: ImageFile, reduction: int) -> Image | None:
    """Decode a complete, upright color JPEG with OpenCV, which gives the same pixels as Pillow in three quarters of the
    time.

    None for other files and if OpenCV fails. Pillow then finds the reason.
    """
    if not isinstance(opened, JpegImagePlugin.JpegImageFile) or opened.mode != "RGB" or _turn(opened) is not None:
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), _JPEG_FLAGS[reduction])
    except cv2.error:
        return None
    if pixels is None or reduction == 1:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))  # OpenCV has no flag for RGB at a reduced size


def jpeg_size(data: bytes, limits: ImageLimits) -> tuple[int, int] | None:
    """Width and height of a JPEG as stored, from its header, or None for another format. Raises the errors of
    decode_image.
    """
    if format_of(data) not in {"JPEG", None}:
        return None
    return _open_header(data, limits).size


def _open_header(data: bytes, limits: ImageLimits) -> ImageFile:
    """The file with its header read and its size checked. Nothing is decoded."""
    plugin = _plugin(data)
    if plugin is WebPImagePlugin.WebPImageFile:
        check_pixels(*_webp_size(data), limits)  # the WebP decoder allocates the canvas when the file is opened
    try:
        opened = plugin(io.BytesIO(data))
    except Exception as error:
        raise UnreadableImage(_reason(error)) from None
    check_pixels(*opened.size, limits)
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        _check_tiles(opened, limits)
    return opened


def _check_tiles(opened: TiffImagePlugin.TiffImageFile, limits: ImageLimits) -> None:
    """A TIFF may store its pixels in tiles, and the decoder allocates a whole tile even for a small image."""
    width, height = (opened.tag_v2.get(tag, 1) for tag in (_TILE_WIDTH_TAG, _TILE_LENGTH_TAG))
    if not isinstance(width, int) or not isinstance(height, int):
        raise UnreadableImage("its content is damaged")
    check_pixels(width, height, limits)


def _plugin(data: bytes) -> type[ImageFile]:
    """The decoder for the first bytes. It is called directly, because the limit of Image.open only warns."""
    plugin = _PLUGINS.get(format_of(data))
    if plugin is None:
        raise UnsupportedImageFormat(f"the file is {describe(data)}; taken are {FORMATS}")
    return plugin


_PLUGINS: Final[dict[Format | None, type[ImageFile]]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}


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


def check_pixels(width: int, height: int, limits: ImageLimits) -> None:
    """Raise ImageTooLarge or UnreadableImage if an image of this size is not accepted."""
    if width * height > limits.pixels:
        raise ImageTooLarge(f"{width} x {height} pixels, at most {limits.pixels} are allowed")
    if width < 1 or height < 1:
        raise UnreadableImage("the image has no pixels")


def _turned_upright(opened: ImageFile) -> Pillow.Image:
    turn = _turn(opened)
    return opened if turn is None else opened.transpose(turn)


def _turn(opened: ImageFile) -> Pillow.Transpose | None:
    """The transposition that turns the image upright, or None."""
    try:
        return _TURNS.get(opened.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged EXIF block does not affect the pixels
        return None


def as_rgb(image: Pillow.Image) -> Pillow.Image:
    """Every mode of the formats as RGB. Transparent pixels become white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16 bits of gray, which convert() would clip instead of scaling
        gray = np.asarray(image).astype(np.int64) >> 8
        return Pillow.fromarray(gray.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Pillow.new("RGBA", layer.size, (255, 255, 255, 255))
        return Pillow.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    """A reason for the caller. Pillow's text may hold addresses of objects and paths, so it is not passed on."""
    text = str(error)
    if "truncated" in text or isinstance(error, EOFError | struct.error):
        return "the image is cut off before its end"
    return "its content is damaged"
