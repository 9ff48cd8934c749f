"""An uploaded image that is decoded lazily, and not larger than needed.

Detection uses a few hundred pixels. A photograph of 12 megapixels is halved until its longer side is below twice the
needed length. A JPEG is decoded at that size (in half the time); other formats are averaged down to the same pixels.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from service.encoder.contract import Box, DetectedFace, Image
from service.encoder.images.cancellation import Cancellation
from service.encoder.images.decode import ImageLimits, decode_known, read_image_structure
from service.encoder.images.formats import format_of
from service.encoder.images.structure import Structure
from service.encoder.networks.quality import size_part

_LARGEST_REDUCTION = 8


class ReducedImage(NamedTuple):
    """Pixels, and the factor to the full image along each side: 1, 2, 4 or 8."""

    pixels: Image
    factor: int


Admit = Callable[[int], None]
"""Called with the number of pixels before they are decoded. It may wait, and may raise an error instead."""


class SourceImage:
    """A file, or the pixels, of one upright image. Used by one thread at a time."""

    def __init__(
        self,
        source: bytes | Image,
        limits: ImageLimits,
        admit: Admit = lambda _: None,
        cancellation: Cancellation | None = None,
    ) -> None:
        self._limits = limits
        self._admit = admit
        self._cancellation = cancellation
        self._data = source if isinstance(source, bytes) else b""
        self._known: Structure | None = None
        self._decoded: dict[int, Image] = {} if isinstance(source, bytes) else {1: source}

    def whole(self) -> Image:
        """All pixels. Raises the errors of decode_image."""
        if 1 not in self._decoded:
            self._decoded[1] = self._decode(1)
        return self._decoded[1]

    def reduced(self, side_pixels: int | None) -> ReducedImage:
        """The image halved while its longer side stays at least `side_pixels` long. None: all pixels."""
        if side_pixels is None or 1 in self._decoded or format_of(self._data) != "JPEG":
            factor = _reduction(max(self.whole().shape[:2]), side_pixels)
            if factor not in self._decoded:
                self._decoded[factor] = _averaged(self.whole(), factor)
        else:
            structure = self._structure()
            factor = _reduction(max(structure.width, structure.height), side_pixels)
            if factor not in self._decoded:
                self._decoded[factor] = self._decode(factor)
        return ReducedImage(self._decoded[factor], factor)

    def _decode(self, factor: int) -> Image:
        structure = self._structure()
        self._admit(min(structure.pixels, self._limits.pixels) // factor**2)
        return decode_known(self._data, structure, self._limits, factor, self._cancellation)

    def _structure(self) -> Structure:
        """Read once, because it is a pass over the file."""
        if self._known is None:
            self._known = read_image_structure(self._data, self._limits)
        return self._known


def enlarged(face: DetectedFace, factor: int) -> DetectedFace:
    """A face of the reduced image in pixels of the full image."""
    if factor == 1:
        return face
    box = Box(*(side * factor for side in (face.box.left, face.box.top, face.box.right, face.box.bottom)))
    landmarks = tuple((x * factor, y * factor) for x, y in face.landmarks)
    parts = face.quality_parts and replace(face.quality_parts, size=size_part(box))
    return replace(
        face, box=box, landmarks=landmarks, quality=parts.score if parts else face.quality, quality_parts=parts
    )


def _reduction(longer: int, side_pixels: int | None) -> int:
    factor = 1
    while side_pixels is not None and factor < _LARGEST_REDUCTION and longer >= 2 * factor * side_pixels:
        factor *= 2
    return factor


def _averaged(image: Image, factor: int) -> Image:
    """Each pixel is the mean of factor x factor pixels (fewer at the borders), as a JPEG decoder computes it."""
    height, width = image.shape[:2]
    down, right = -height % factor, -width % factor
    even = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REPLICATE) if down or right else image
    size = (width + right) // factor, (height + down) // factor
    return np.asarray(cv2.resize(even, size, interpolation=cv2.INTER_AREA))
