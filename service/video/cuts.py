"""Sudden changes: cuts between two scenes, and faces that look different from one frame to the next.

After a cut nothing in the image is where it was, so every track ends. A face that looks different is read again.
Without both a face that stands where another face stood would inherit its name.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from service.encoder.contract import Box, Image

_COLUMNS: Final = 32
_ROWS: Final = 18
_CHANGE: Final = 0.75
"""Mean change of brightness, as a share of the mean brightness, from which a frame begins a scene. In the tests' clip
cuts change 0.93 to 1.22 of it, and people that move or a camera that follows them at most 0.69. A false cut costs
another recognition, a missed cut a wrong name for up to a second."""

_PATCH: Final = 12
_LEAST_LIKENESS: Final = 0.5
"""Correlation of a face with the same face a tenth of a second ago. Below it the face has turned, or is another."""

Thumbnail = npt.NDArray[np.float32]


def thumbnail(image: Image) -> Thumbnail:
    """The brightness of the image at 32 x 18 places, float32, shape (18, 32)."""
    height, width, _ = image.shape
    rows = np.linspace(0, height - 1, _ROWS).astype(np.intp)
    columns = np.linspace(0, width - 1, _COLUMNS).astype(np.intp)
    places: Thumbnail = image[rows][:, columns].mean(axis=2, dtype=np.float32)
    return places


def is_cut(before: Thumbnail, after: Thumbnail) -> bool:
    """Whether a new scene begins between the two images."""
    brightness = float(before.mean() + after.mean()) / 2
    return float(np.abs(before - after).mean()) > _CHANGE * max(1.0, brightness)


def patch_of(image: Image, box: Box) -> Thumbnail:
    """The brightness of a face at 12 x 12 places, float32, with the mean 0 and the length 1, shape (12, 12)."""
    height, width, _ = image.shape
    rows = np.linspace(box.top, box.bottom, _PATCH + 2)[1:-1].round().astype(np.intp).clip(0, height - 1)
    columns = np.linspace(box.left, box.right, _PATCH + 2)[1:-1].round().astype(np.intp).clip(0, width - 1)
    places: Thumbnail = image[rows][:, columns].mean(axis=2, dtype=np.float32)
    places -= places.mean()
    return places / max(1e-6, float(np.linalg.norm(places)))


def is_changed(before: Thumbnail, after: Thumbnail) -> bool:
    """Whether a face looks different, from two results of `patch_of`."""
    return float((before * after).sum()) < _LEAST_LIKENESS
