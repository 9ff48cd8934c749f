"""A folder of people: one folder per person, named after the person, with the person's images; and their embeddings.

A file without an image suffix is skipped. An image without a usable face is reported with its name and the reason.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.encoders import Encoders
from service.errors import ImageTooLarge, InvalidRequest, NoFaceFound, UnreadableImage, UnsupportedImageFormat

PICTURE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif"]
)
"""Includes suffixes of formats that are not supported, so that such an image is reported and not skipped in silence."""

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Portraits:
    """A person's images in natural order: 2.jpg before 10.jpg."""

    name: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class EncodedPortraits:
    """A person's embeddings, at least one, each with the name of its image."""

    name: str
    embeddings: tuple[tuple[str, Embedding], ...]


@dataclass(frozen=True)
class Failure:
    """An image without a usable face. `reason` is the slug of an error."""

    image: str
    reason: str


def find_portraits(folder: Path) -> list[Portraits]:
    """The people of a folder in natural order. Raises InvalidRequest if it holds none."""
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is not a folder")
    found = [
        Portraits(place.name, tuple(path for path in _in_order(place) if _is_picture(path)))
        for place in _in_order(folder)
        if place.is_dir() and not place.name.startswith(".")
    ]
    people = [person for person in found if person.paths]
    if not people:
        raise InvalidRequest(f"{folder} holds no folder with images: it needs one folder per person")
    return people


async def encode_portraits(
    encoders: Encoders,
    space: EmbeddingSpace,
    people: Sequence[Portraits],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[EncodedPortraits], list[Failure]]:
    """The largest face of every image. People without a usable image are left out."""
    encoded: list[EncodedPortraits] = []
    failures: list[Failure] = []
    done, total = 0, sum(len(person.paths) for person in people)
    for person in people:
        embeddings: list[tuple[str, Embedding]] = []
        for path in person.paths:
            found = await _encode(encoders, space, path, f"{person.name}/{path.name}")
            if isinstance(found, Failure):
                failures.append(found)
            else:
                embeddings.append((f"{person.name}/{path.name}", found))
            done += 1
            if progress is not None:
                progress(done, total)
        if embeddings:
            encoded.append(EncodedPortraits(person.name, tuple(embeddings)))
    return encoded, failures


async def _encode(encoders: Encoders, space: EmbeddingSpace, path: Path, image: str) -> Embedding | Failure:
    try:
        data = await asyncio.to_thread(path.read_bytes)
        faces = await encoders.encode(space, data, maximum_faces=1, bulk=True)
    except (UnreadableImage, UnsupportedImageFormat, ImageTooLarge) as error:
        return Failure(image, error.slug)
    except OSError:
        return Failure(image, UnreadableImage.slug)
    return faces[0].embedding if faces else Failure(image, NoFaceFound.slug)


def _in_order(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: natural_key(path.name))


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key in natural order: numbers by value, letters without regard to case, then exactly."""
    parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in _DIGITS.split(name) if part]
    return tuple(parts), name


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
