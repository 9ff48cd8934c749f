"""The photographs of the measurement: people and small groups from a folder, and crowds of five faces and more."""

from pathlib import Path

import cv2
import numpy as np

_SHARED = Path(__file__).parents[3] / "shared"
PACK = _SHARED / "models" / "scrfd2.5g-mobilefacenet128"
PHOTOGRAPHS = _SHARED / "faces"
_TILE = 400
"""Pixels along a side of each portrait in a collage of six."""


def photographs(folder: Path) -> list[bytes]:
    """Return every JPEG of the folder, as the bytes of the file."""
    return [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]


def crowds(folder: Path) -> list[bytes]:
    """Return JPEGs with five faces and more.

    These are the group photograph of six that insightface ships (unchanged, mirrored, and at two thirds), and collages
    of six portraits from `folder`, because there is no other group photograph at hand.
    """
    group = _group_photograph()
    pictures = [group, cv2.flip(group, 1), cv2.resize(group, None, fx=2 / 3, fy=2 / 3, interpolation=cv2.INTER_AREA)]
    portraits = sorted((folder / "people").rglob("*.jpg"))
    pictures += [_collage(portraits[first : first + 6]) for first in (0, 3, 5)]
    return [bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]) for picture in pictures]


def _group_photograph() -> np.ndarray:
    import insightface

    return _read(Path(insightface.__file__).parent / "data" / "images" / "t1.jpg")


def _collage(portraits: list[Path]) -> np.ndarray:
    tiles = [_tile(_read(path)) for path in portraits]
    return np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:6])])


def _tile(picture: np.ndarray) -> np.ndarray:
    """Return the upper middle square of a portrait."""
    height, width = picture.shape[:2]
    side = min(height, width)
    left = (width - side) // 2
    return cv2.resize(picture[:side, left : left + side], (_TILE, _TILE), interpolation=cv2.INTER_AREA)


def _read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return picture
