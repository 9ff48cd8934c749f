"""Image files: read them, and derive the names of people from folders and file names."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.encoder.encoders import Encoders
from service.errors import InvalidRequest, NotFound, ServiceError
from service.identity.portraits import PICTURE_SUFFIXES

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class PictureFile:
    """An image file. `shown` is its path relative to the folder given on the command line."""

    shown: str
    path: Path


@dataclass(frozen=True)
class Findings:
    """Images by person, in order, and stray images that lie beside folders of people and belong to no person."""

    people: dict[str, list[PictureFile]]
    strays: list[PictureFile]


def read_file(path: str | Path) -> bytes:
    """Read a file, or standard input for `-`. Raises NotFound if the file does not exist."""
    if path == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise NotFound(f"the file {path} does not exist") from None
    except IsADirectoryError:
        raise InvalidRequest(f"{path} is a folder, not a file") from None


async def check_picture(encoders: Encoders, path: str, data: bytes) -> None:
    """Decode an image, so that the error of a command with several images names the path."""
    try:
        await encoders.decode(data)
    except ServiceError as error:
        raise type(error)(f"{path}: {error.detail}") from None


def people_in(paths: Sequence[str], name: str | None) -> Findings:
    """Group image files by person.

    A folder of folders: one person per folder. A folder of images: one person with the folder's name. A file: one
    person with the file's name, without its suffix. If `name` is given, all images show that person. Files in folders
    are skipped if their suffix is not that of an image.
    """
    findings = Findings({}, [])
    for text in paths:
        for person, picture in _pictures(Path(text)):
            whose = name or person
            if whose is None:
                findings.strays.append(picture)
            else:
                findings.people.setdefault(whose, []).append(picture)
    return findings


def _pictures(path: Path) -> Iterator[tuple[str | None, PictureFile]]:
    """Every image at or below a path with its person; None for a file that lies beside folders of people."""
    if not path.exists():
        raise NotFound(f"{path} does not exist")
    if not path.is_dir():
        yield path.stem, PictureFile(path.name, path)
        return
    has_folders = any(entry.is_dir() for entry in _entries(path))
    for entry in _entries(path):
        person = None if has_folders and not entry.is_dir() else (entry if has_folders else path.resolve()).name
        for file in _files(entry):
            yield person, PictureFile(str(file.relative_to(path)), file)


def _files(entry: Path) -> Iterator[Path]:
    if not entry.is_dir():
        yield entry
        return
    for below in _entries(entry):
        yield from _files(below)


def _entries(folder: Path) -> list[Path]:
    """The folders and image files of a folder, sorted by name; hidden ones are skipped."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and (entry.is_dir() or entry.suffix.lower() in PICTURE_SUFFIXES)
    )


def read_embeddings(data: bytes, path: str) -> list[list[float]]:
    """Parse embeddings from JSON: a list of numbers, or a list of such lists."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise InvalidRequest(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"{path}: an embedding must be a list of numbers")
    return value if isinstance(value[0], list) else [value]
