"""The photographs of the demo, the portraits cut out of them, and the alterations that make probes.

One portrait lies beside this file (public domain). The photograph of a group and one more portrait belong to the Python
package insightface, whose licence is no reason to copy them: they are taken from the installed package, or the demo
fetches that package from the package index once, takes the two files and keeps them in DATA_DIR/demo.
"""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from service.cli.output import remark
from service.encoder.contract import Box
from service.errors import NotFound

Rectangle = tuple[int, int, int, int]
"""left, top, right, bottom in pixels."""

_PACKAGE = "insightface==2.1"
_GROUP = "t1.jpg"
_ACTOR = "Tom_Hanks_54745.png"
_DIGESTS = {
    _GROUP: "47f682e945b659f93a9e490b9c9c4a2a864abe64dace9e1a2893845ddfd69489",
    _ACTOR: "8545da294e8c7c79911169c3915fed8528f1960cd0ed99b92453788ca4275083",
}
"""SHA-256 of the two files of the package."""

# Seats in the group photo, from left to right.
_SEATS: dict[str, Rectangle] = {
    "Player 1": (5, 205, 230, 455),
    "Player 2": (210, 100, 425, 320),
    "Player 3": (390, 215, 640, 490),
    "Player 4": (675, 285, 905, 535),
    "Player 5": (835, 5, 1070, 260),
    "Player 6": (1060, 205, 1280, 455),
}
_STRANGERS = ("Player 3", "Tom Hanks")  # not enrolled

GROUP = "group photo"


@dataclass(frozen=True)
class DemoPictures:
    """The group photo, and a portrait of each person by name."""

    group: Image.Image
    portraits: dict[str, Image.Image]

    @property
    def enrolled(self) -> list[str]:
        """Names of the people that the demo enrolls."""
        return [name for name in self.portraits if name not in _STRANGERS]

    @property
    def strangers(self) -> list[str]:
        """Names of the people that it does not enroll; no probe of them may match."""
        return [name for name in self.portraits if name in _STRANGERS]

    @property
    def seated(self) -> list[str]:
        """Names of the people in the group photo."""
        return list(_SEATS)


def demo_pictures(data_dir: Path) -> DemoPictures:
    """The photographs of the demo. Raises NotFound if insightface's are neither installed nor can be fetched."""
    folder = _package_folder() or _kept_folder(data_dir / "demo")
    group = _open(folder / _GROUP)
    portraits = {name: group.crop(seat) for name, seat in _SEATS.items()}
    with files("service.cli").joinpath("data/eileen-collins.png").open("rb") as file:
        portraits["Eileen Collins"] = Image.open(file).convert("RGB")
    portraits["Tom Hanks"] = _open(folder / _ACTOR)
    return DemoPictures(group, portraits)


def seated_at(box: Box) -> str | None:
    """The name of the person whose seat holds the center of the box, or None."""
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    for name, (left, top, right, bottom) in _SEATS.items():
        if left <= x <= right and top <= y <= bottom:
            return name
    return None


def file_name(name: str) -> str:
    """A name in the form of a file name: `Player 1` is `player-1`."""
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
"""Name of an alteration -> function that makes a probe of a portrait."""


def _open(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def _package_folder() -> Path | None:
    """The folder with the images of the installed insightface. The package is found without importing it."""
    spec = find_spec("insightface")
    folders = spec.submodule_search_locations if spec is not None else None
    return next((path for folder in folders or [] if _is_whole(path := Path(folder, "data", "images"))), None)


def _kept_folder(folder: Path) -> Path:
    """`folder` with the two images, fetched if they are not there yet."""
    if _is_whole(folder):
        return folder
    remark(f"fetching two photographs for the demo: they are part of the Python package {_PACKAGE} (1 MB)")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in _fetch(Path(scratch)).items():
            (folder / name).write_bytes(content)
    return folder


def _fetch(scratch: Path) -> dict[str, bytes]:
    """The two images out of the package, which pip downloads. It is not installed and nothing of it is run."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(scratch), _PACKAGE], check=False, capture_output=True, text=True)  # noqa: S603 - constants
    wheel = next(iter(scratch.glob("*.whl")), None)
    if done.returncode != 0 or wheel is None:
        reason = done.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        raise NotFound(f"the photographs of the demo cannot be fetched ({reason[0]}): pip install --no-deps {_PACKAGE}")
    with zipfile.ZipFile(wheel) as opened:
        images = {name: opened.read(f"insightface/data/images/{name}") for name in _DIGESTS}
    for name, content in images.items():
        if hashlib.sha256(content).hexdigest() != _DIGESTS[name]:
            raise NotFound(f"{name} of the Python package {_PACKAGE} is not the expected photograph")
    return images


def _is_whole(folder: Path) -> bool:
    """Whether the folder holds both images, with the expected content."""
    paths = [(folder / name, digest) for name, digest in _DIGESTS.items()]
    return all(path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest for path, digest in paths)
