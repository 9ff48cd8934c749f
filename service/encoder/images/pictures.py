"""Pictures as programs have them: a path, the content of a file, an open file, an image of Pillow, or an array."""

import os
from collections.abc import Iterable
from typing import Any, BinaryIO, Protocol, TypeGuard, cast

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from service.encoder.contract import Image
from service.encoder.images.decode import ImageLimits, as_rgb, check_pixels, decode_image
from service.errors import InvalidRequest, UnreadableImage


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


ImageInput = Image | bytes | bytearray | memoryview | str | os.PathLike[str] | Pillow.Image | BinaryIO | _Readable
"""Pixels of shape (height, width, 3), RGB, uint8; an image of Pillow; the path of an image file; its content; or the
open file.
"""

_TAKEN = (
    "a picture is a path (str or os.PathLike), the content of an image file (bytes), a file that is open in binary "
    "mode, a PIL.Image.Image, or a NumPy array of uint8 and shape (height, width, 3), RGB"
)


def list_pictures(value: Iterable[ImageInput] | ImageInput) -> Iterable[ImageInput]:
    """The pictures of a list or of an array of shape (pictures, height, width, 3). One picture is a list of one."""
    single = isinstance(value, str | os.PathLike | bytes | bytearray | memoryview | Pillow.Image) or _has_read(value)
    if single or (isinstance(value, np.ndarray) and value.ndim != 4) or not isinstance(value, Iterable):
        return [cast(ImageInput, value)]
    return cast(Iterable[ImageInput], value)


def read_picture(picture: ImageInput, limits: ImageLimits) -> Image:
    """The upright pixels of a picture, RGB, shape (height, width, 3).

    Raises TypeError for a value that is no picture, InvalidRequest for an array of another shape or type, OSError for a
    file that cannot be opened, and the errors of decode_image.
    """
    if isinstance(picture, np.ndarray):
        return _checked(picture)
    if isinstance(picture, Pillow.Image):
        return _pixels_of(picture, limits)
    if isinstance(picture, bytes | bytearray | memoryview):
        return decode_image(bytes(picture), limits)
    if isinstance(picture, str | os.PathLike):
        return decode_image(_content_of(picture, limits), limits)
    if _has_read(picture):
        return decode_image(_read(picture, limits), limits)
    raise TypeError(f"{_TAKEN}; this one is {type(picture).__name__}")


def shown_picture(picture: object) -> str:
    """The path of a picture, for messages about it; empty if it has none. Pixels and content are never shown."""
    name = getattr(picture, "filename", None) or getattr(picture, "name", None) or picture
    return os.fsdecode(name) if isinstance(name, str | os.PathLike) else ""


def _checked(pixels: "np.ndarray[Any, Any]") -> Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise InvalidRequest(
            f"an image must be an array of uint8 and shape (height, width, 3), RGB; this one is {pixels.dtype} "
            f"of shape {pixels.shape}"
        )
    return np.ascontiguousarray(pixels)


def _pixels_of(image: Pillow.Image, limits: ImageLimits) -> Image:
    """The image as files are read: turned upright by its EXIF orientation, transparent pixels white."""
    check_pixels(*image.size, limits)
    try:
        return np.asarray(as_rgb(ImageOps.exif_transpose(image)))
    except OSError:  # an image of a file is decoded only now
        raise UnreadableImage("the image of Pillow cannot be decoded") from None


def _content_of(path: str | os.PathLike[str], limits: ImageLimits) -> bytes:
    """Read a regular file. Without O_NONBLOCK, opening a named pipe would wait for its writer."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not os.path.isfile(file.fileno()):
            raise UnreadableImage(f"{os.fspath(path)} is not a regular file")
        return file.read(limits.bytes + 1)


def _read(file: _Readable, limits: ImageLimits) -> bytes:
    """Read from the file's position. One byte more than the limit is enough to refuse it."""
    content = cast(object, file.read(limits.bytes + 1))
    if not isinstance(content, bytes | bytearray):
        raise TypeError(f"{_TAKEN}; this file gave {type(content).__name__}: open it in binary mode")
    return bytes(content)


def _has_read(value: object) -> TypeGuard[_Readable]:
    return callable(getattr(value, "read", None))
