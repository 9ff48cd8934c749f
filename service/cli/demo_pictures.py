"""The demo's pictures: only such as installed packages ship. Portraits are cut out of them, probes are altered copies.

A group of six around a table and a portrait come with insightface, the portrait of an astronaut with scikit-image.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from service.encoder.contract import Box
from service.errors import NotFound

Rectangle = tuple[int, int, int, int]
"""left, top, right, bottom in pixels."""

_GROUP = ("insightface", "data/images/t1.jpg")
_ASTRONAUT = ("skimage", "data/astronaut.png")
_ACTOR = ("insightface", "data/images/Tom_Hanks_54745.png")

# Who sits where in the group photo, from left to right.
_SEATS: dict[str, Rectangle] = {
    "Player 1": (5, 205, 230, 455),
    "Player 2": (210, 100, 425, 320),
    "Player 3": (390, 215, 640, 490),
    "Player 4": (675, 285, 905, 535),
    "Player 5": (835, 5, 1070, 260),
    "Player 6": (1060, 205, 1280, 455),
}
_HEAD_OF_THE_ASTRONAUT: Rectangle = (110, 0, 350, 250)  # without the badges on the suit, where a face can be seen
_STRANGERS = ("Player 3", "Tom Hanks")  # they are in the pictures and not in the gallery

GROUP = "group photo"


@dataclass(frozen=True)
class DemoPictures:
    """What the demo works with: the group photo as shipped, and a portrait of each person by name."""

    group: Image.Image
    portraits: dict[str, Image.Image]

    @property
    def enrolled(self) -> list[str]:
        """The people who are enrolled."""
        return [name for name in self.portraits if name not in _STRANGERS]

    @property
    def strangers(self) -> list[str]:
        """The people who are not, and are to be recognized as nobody."""
        return [name for name in self.portraits if name in _STRANGERS]

    @property
    def seated(self) -> list[str]:
        """Who is in the group photo."""
        return list(_SEATS)


def shipped_pictures() -> DemoPictures:
    """The pictures out of the installed packages; NotFound names the one that is missing."""
    group = _open(*_GROUP)
    portraits = {name: group.crop(seat) for name, seat in _SEATS.items()}
    portraits["Eileen Collins"] = _open(*_ASTRONAUT).crop(_HEAD_OF_THE_ASTRONAUT)
    portraits["Tom Hanks"] = _open(*_ACTOR)
    return DemoPictures(group, portraits)


def seated_at(box: Box) -> str | None:
    """Who sits where this face of the group photo is."""
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    for name, (left, top, right, bottom) in _SEATS.items():
        if left <= x <= right and top <= y <= bottom:
            return name
    return None


def file_name(name: str) -> str:
    """A name as a file can be called and typed: `Player 1` is `player-1`."""
    return name.lower().replace(" ", "-")


def jpeg(picture: Image.Image, quality: int = 92) -> bytes:
    """The picture as a JPEG file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _halved(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)


ALTERATIONS: dict[str, Callable[[Image.Image], bytes]] = {
    "mirrored": lambda picture: jpeg(ImageOps.mirror(picture)),
    "darker": lambda picture: jpeg(ImageEnhance.Brightness(picture).enhance(0.4)),
    "half size": lambda picture: jpeg(_halved(picture)),
    "JPEG 20": lambda picture: jpeg(picture, quality=20),
}
"""Name -> what makes a probe of a portrait."""


def _open(package: str, path: str) -> Image.Image:
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or []:
        if (found := Path(folder, path)).is_file():
            return Image.open(found).convert("RGB")
    raise NotFound(f"the demo's picture {path} of the Python package {package} is not installed")
