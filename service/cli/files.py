"""Pictures on disk: reading one, and finding out whose they are from the folders they lie in."""

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
    """A picture on disk; `shown` is its path below the folder that was given."""

    shown: str
    path: Path


@dataclass(frozen=True)
class Findings:
    """Pictures by person, in order, and files that lie beside folders of people and so are nobody's."""

    people: dict[str, list[PictureFile]]
    strays: list[PictureFile]


def read_file(path: str | Path) -> bytes:
    """The content of a file, or of standard input for `-`. NotFound where there is none."""
    if path == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except IsADirectoryError:
        raise InvalidRequest(f"{path} is a folder, and a file is needed") from None


async def check_picture(encoders: Encoders, path: str, data: bytes) -> None:
    """The error of a picture that cannot be decoded, with its path, where a command takes more than one."""
    try:
        await encoders.decode(data)
    except ServiceError as error:
        raise type(error)(f"{path}: {error.detail}") from None


def people_in(paths: Sequence[str], name: str | None) -> Findings:
    """The people that folders and files stand for.

    A folder with folders in it: one person each. A folder of pictures: one person, named as the folder. A file: one
    person, named as the file without its ending. `name` makes them all pictures of that person. Files in folders that
    are no pictures by their ending are passed over.
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
    """Every file at or below a path, with the person whose folder it is in; None: it lies beside such folders."""
    if not path.exists():
        raise NotFound(f"there is no file or folder {path}")
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
    """What lies in a folder, by name: folders, and files that are pictures by their ending."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and (entry.is_dir() or entry.suffix.lower() in PICTURE_SUFFIXES)
    )


def read_embeddings(data: bytes, path: str) -> list[list[float]]:
    """The embeddings of a JSON file: one list of numbers, or a list of such lists."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON: {error}") from None
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"{path}: an embedding is a list of numbers")
    return value if isinstance(value[0], list) else [value]
