"""An uploaded image that is decoded lazily, and not larger than needed.

Detection uses a few hundred pixels. A photograph of 12 megapixels is halved until its longer side is below twice the
needed length. A JPEG is decoded at that size (in half the time); other formats are averaged down to the same pixels.
"""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from service.encoder.contract import Box, DetectedFace, Image
from service.encoder.images.decode import ImageLimits, decode_image, jpeg_size
from service.encoder.networks.quality import size_part

_LARGEST_REDUCTION = 8


class ReducedImage(NamedTuple):
    """Pixels, and the factor to the full image along each side: 1, 2, 4 or 8."""

    pixels: Image
    factor: int


class SourceImage:
    """A file, or the pixels, of one upright image. Used by one thread at a time."""

    def __init__(self, source: bytes | Image, limits: ImageLimits) -> None:
        self._limits = limits
        self._data = source if isinstance(source, bytes) else b""
        self._decoded: dict[int, Image] = {} if isinstance(source, bytes) else {1: source}

    def whole(self) -> Image:
        """All pixels. Raises the errors of decode_image."""
        if 1 not in self._decoded:
            self._decoded[1] = decode_image(self._data, self._limits)
        return self._decoded[1]

    def reduced(self, side_pixels: int | None) -> ReducedImage:
        """The image halved while its longer side stays at least `side_pixels` long. None: all pixels."""
        size = jpeg_size(self._data, self._limits) if side_pixels is not None and 1 not in self._decoded else None
        longer = max(size or self.whole().shape[:2])
        factor = _reduction(longer, side_pixels)
        if factor not in self._decoded:
            self._decoded[factor] = (
                _averaged(self.whole(), factor) if size is None else decode_image(self._data, self._limits, factor)
            )
        return ReducedImage(self._decoded[factor], factor)


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
