"""Decodes uploaded image files to upright RGB pixels, and refuses too large, damaged or unsupported files.

The structure of a file is read first, so an image of too many pixels, scans or segments is refused before it is decoded
(`structure`). What could take long all the same is decoded in another process (`decoder_pool`). The EXIF orientation is
applied.
"""

import importlib.util
import io
import struct
from dataclasses import dataclass
from typing import Any, Final, cast

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
from service.encoder.images.cancellation import Cancellation
from service.encoder.images.decoder_pool import decode_apart
from service.encoder.images.formats import FORMATS, Format, describe, format_of
from service.encoder.images.structure import Structure, read_structure
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


MAXIMUM_WORK: Final = 400_000_000
"""Pixels times passes of an image that is decoded in this process: 40 megapixels of a JPEG with ten scans. It takes
about half a second. An image of more work is decoded in a process that can be killed."""
_END_OF_JPEG: Final = b"\xff\xd9"
_ENDS_TO_COMPARE: Final = tuple(filling * 64 + _END_OF_JPEG for filling in (b"", b"\x5a", b"\xa5", b"\x00"))


@dataclass(frozen=True)
class ImageLimits:
    """Largest upload in bytes, and largest image in pixels."""

    bytes: int
    pixels: int


def decode_image(
    data: bytes, limits: ImageLimits, reduction: int = 1, cancellation: Cancellation | None = None
) -> Image:
    """Decode to the upright image, RGB, shape (height, width, 3).

    The first bytes tell the format, never the file name: see `formats.FORMATS`. An animation gives its first frame. A
    JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, rounded up; other formats ignore `reduction`. An image that
    could take long is decoded in another process, which is killed after a deadline and by `cancellation`; this raises
    CancelledError. Raises ImageTooLarge (before decoding), UnsupportedImageFormat or UnreadableImage.
    """
    return decode_known(data, read_image_structure(data, limits), limits, reduction, cancellation)


def decode_known(
    data: bytes, structure: Structure, limits: ImageLimits, reduction: int, cancellation: Cancellation | None
) -> Image:
    """decode_image for a file whose structure was read already."""
    if structure.is_usual and structure.pixels * structure.passes <= MAXIMUM_WORK:
        return decode_here(data, limits, reduction)
    return decode_apart(data, limits.pixels, reduction, cancellation)


def read_image_structure(data: bytes, limits: ImageLimits) -> Structure:
    """The structure of a file within the limits. Raises the errors of decode_image; nothing is decoded."""
    if len(data) > limits.bytes:
        raise ImageTooLarge(f"{len(data)} bytes, at most {limits.bytes} are allowed")
    kind = format_of(data)
    if kind is None:
        raise UnsupportedImageFormat(f"the file is {describe(data)}; taken are {FORMATS}")
    _refuse_missing(kind)
    structure = read_structure(data, kind)
    if kind not in _CONTAINERS:  # what these declare need not be the size of the image: their decoder tells
        check_pixels(structure.width, structure.height, limits)
    return structure


def _refuse_missing(kind: Format) -> None:
    """Refuse a format that this installation does not read."""
    if kind == "AVIF" and not features.check("avif"):
        raise UnsupportedImageFormat("the file is an AVIF image, and this build of Pillow reads none")
    if kind == "HEIC" and importlib.util.find_spec("pi_heif") is None:
        raise UnsupportedImageFormat(
            "the file is a HEIC image; to read it, install the extra: pip install 'face-identity-service[heic]'"
        )


def decode_here(data: bytes, limits: ImageLimits, reduction: int = 1) -> Image:
    """Decode in this process. Raises the errors of decode_image."""
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
            return decode_here(mended, ImageLimits(len(mended), limits.pixels), reduction)
        raise UnreadableImage(_reason(error)) from None


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


def _open_header(data: bytes, limits: ImageLimits) -> ImageFile:
    """The file with its header read and its size checked. Nothing is decoded.

    The decoder is called directly, because the limit of Image.open only warns.
    """
    kind = format_of(data)
    try:
        opened = _open_container(data) if kind in _CONTAINERS else _PLUGINS[kind](io.BytesIO(data))
    except Exception as error:
        raise UnreadableImage(_reason(error)) from None
    check_pixels(*opened.size, limits)
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        _check_tiles(opened, limits)
    return opened


def _open_container(data: bytes) -> ImageFile:
    """An AVIF or HEIC file. Their decoders use one thread, as every other decoder does."""
    if format_of(data) == "AVIF":
        plugin: Any = importlib.import_module("PIL.AvifImagePlugin")
        plugin.DEFAULT_MAX_THREADS = 1
        return cast(ImageFile, plugin.AvifImageFile(io.BytesIO(data)))
    pi_heif: Any = importlib.import_module("pi_heif")
    pi_heif.options.DECODE_THREADS = 1
    return cast(ImageFile, pi_heif.HeifImageFile(io.BytesIO(data)))


def _check_tiles(opened: TiffImagePlugin.TiffImageFile, limits: ImageLimits) -> None:
    """A TIFF may store its pixels in tiles, and the decoder allocates a whole tile even for a small image."""
    width, height = (opened.tag_v2.get(tag, 1) for tag in (_TILE_WIDTH_TAG, _TILE_LENGTH_TAG))
    if not isinstance(width, int) or not isinstance(height, int):
        raise UnreadableImage("its content is damaged")
    check_pixels(width, height, limits)


_PLUGINS: Final[dict[Format | None, type[ImageFile]]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}


_CONTAINERS: Final = frozenset[Format]({"AVIF", "HEIC"})


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
