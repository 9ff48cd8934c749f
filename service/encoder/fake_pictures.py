"""Images for the fake encoder: a magenta frame around a mirror-symmetric pattern that depends on the name.

A name always gives nearly the same embedding, and different names give unrelated ones. The embedding survives JPEG,
resizing to a third, darkening and mirroring. `variation` draws another photograph of the same people.
"""

import hashlib
import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from service.encoder.contract import Image

FRAME_SHARE = 0.1
"""Width of the frame on each side, as a share of the side of the face."""

CELLS = 16
"""Cells of the pattern on each side. The right half mirrors the left half."""

FRAME_COLOR = (230, 20, 230)
PRINTED_COLOR = (230, 20, 150)
"""Color of the frame around a printed face. FRAME_COLOR is that of a living one."""

_GROUND_COLOR = (150, 160, 150)


def draw_people(
    names: Sequence[str],
    size: tuple[int, int] | None = None,
    *,
    variation: int = 0,
    printed: bool = False,
    format: Literal["JPEG", "PNG", "WEBP", "BMP"] = "JPEG",
) -> bytes:
    """An image file of `size` (width, height) with one face per name, from left to right.

    `printed` draws photographs of people, which the fake encoder's liveness check detects. All faces have the same
    size, 192 pixels without `size`. Raises ValueError if the faces would be too small to be found.
    """
    return encode_picture(people_pixels(names, size, variation=variation, printed=printed), format)


def draw_nobody(size: tuple[int, int] = (320, 240)) -> bytes:
    """A JPEG without a face."""
    return encode_picture(people_pixels((), size), "JPEG")


def people_pixels(
    names: Sequence[str], size: tuple[int, int] | None = None, *, variation: int = 0, printed: bool = False
) -> Image:
    """The same image as pixels."""
    width, height = size or (256 * max(1, len(names)), 256)
    side = int(min(width / max(1, len(names)), height) * 0.75)
    if names and side < 48:
        raise ValueError(f"faces of {side} pixels would not be found: draw a larger picture")
    picture = np.full((height, width, 3), _GROUND_COLOR, dtype=np.uint8)
    for place, name in enumerate(names):
        left = int((place + 0.5) * width / len(names) - side / 2)
        top = (height - side) // 2
        picture[top : top + side, left : left + side] = _face(name, side, PRINTED_COLOR if printed else FRAME_COLOR)
    return _varied(picture, variation)


def encode_picture(picture: Image, format: str) -> bytes:
    """The pixels as an image file, JPEG at quality 92."""
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, format, quality=92)
    return file.getvalue()


def _face(name: str, side: int, color: tuple[int, int, int]) -> Image:
    face = np.full((side, side, 3), color, dtype=np.uint8)
    border = round(side * FRAME_SHARE)
    inner = side - 2 * border
    cells = Pillow.fromarray(_pattern(name)).resize((inner, inner), Pillow.Resampling.NEAREST)
    face[border:-border, border:-border] = np.asarray(cells)[:, :, None]
    return face


def _pattern(name: str) -> npt.NDArray[np.uint8]:
    """Gray cells of shape (CELLS, CELLS): half light, half dark, chosen by the name."""
    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest(), "big")
    half = np.repeat(np.array([50, 205], dtype=np.uint8), CELLS * CELLS // 4)
    left = np.random.default_rng(seed).permutation(half).reshape(CELLS, CELLS // 2)
    return np.hstack([left, left[:, ::-1]])


def _varied(picture: Image, variation: int) -> Image:
    if variation == 0:
        return picture
    random = np.random.default_rng(variation)
    light = random.uniform(0.75, 1.1)
    noise = random.normal(0, 6, picture.shape)
    return (picture * light + noise).clip(0, 255).astype(np.uint8)
