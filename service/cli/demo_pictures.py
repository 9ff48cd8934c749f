"""The demo's images: a group of six, an actor and an astronaut. Portraits are crops, probes are altered copies.

The astronaut is a photograph by NASA in the public domain and belongs to this package. The other two images belong to
the insightface package, whose license does not cover copies in ours; service.cli.demo_download finds or fetches them.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from service.cli.demo_download import ACTOR, GROUP_PHOTO, insightface_images
from service.encoder.contract import Box

Rectangle = tuple[int, int, int, int]
"""left, top, right, bottom in pixels."""

# The position of each person in the group photo, from left to right.
_SEATS: dict[str, Rectangle] = {
    "Player 1": (5, 205, 230, 455),
    "Player 2": (210, 100, 425, 320),
    "Player 3": (390, 215, 640, 490),
    "Player 4": (675, 285, 905, 535),
    "Player 5": (835, 5, 1070, 260),
    "Player 6": (1060, 205, 1280, 455),
}
_STRANGERS = ("Player 3", "Tom Hanks")  # shown in the images, but not enrolled

GROUP = "group photo"


@dataclass(frozen=True)
class DemoPictures:
    """The group photo and one portrait of each person, by name."""

    group: Image.Image
    portraits: dict[str, Image.Image]

    @property
    def enrolled(self) -> list[str]:
        """The people whom the demo enrolls."""
        return [name for name in self.portraits if name not in _STRANGERS]

    @property
    def strangers(self) -> list[str]:
        """The people whom the demo does not enroll. The service must recognize them as nobody."""
        return [name for name in self.portraits if name in _STRANGERS]

    @property
    def seated(self) -> list[str]:
        """The people in the group photo."""
        return list(_SEATS)


def demo_pictures(data_dir: Path) -> DemoPictures:
    """Return the demo's images. Raises NotFound if they are not installed and cannot be downloaded."""
    images = insightface_images(data_dir / "demo")
    group = _decoded(images[GROUP_PHOTO])
    portraits = {name: group.crop(seat) for name, seat in _SEATS.items()}
    portraits["Eileen Collins"] = _decoded(files("service.cli").joinpath("data", "eileen-collins.png").read_bytes())
    portraits["Tom Hanks"] = _decoded(images[ACTOR])
    return DemoPictures(group, portraits)


def seated_at(box: Box) -> str | None:
    """Return the person at whose position this face of the group photo lies, or None."""
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    for name, (left, top, right, bottom) in _SEATS.items():
        if left <= x <= right and top <= y <= bottom:
            return name
    return None


def file_name(name: str) -> str:
    """Return a person's name as part of a file name: `Player 1` becomes `player-1`."""
    return name.lower().replace(" ", "-")


def jpeg(picture: Image.Image, quality: int = 92) -> bytes:
    """Return the image as the content of a JPEG file."""
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
"""Name of an alteration -> function that makes a probe of a portrait."""


def _decoded(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")
