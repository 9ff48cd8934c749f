"""Image files on disk and the people whom they show: one folder per person, named after the person.

One odd entry never ends the work on all others: a file that cannot be read, or a name that cannot be stored, becomes
an entry of `rejected`. A layout that would enroll different people as one person is an error.
"""

import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.database.names import canonical_name
from service.errors import InvalidRequest, NoPerson, NotFound, ServiceError, UnreadableImage
from service.gallery.content import check_name

PICTURE_SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif"]
)
"""Files in folders with another suffix are skipped. The content of a file decides how it is read, not its suffix."""

HELPER_FOLDERS = frozenset(
    [
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),  # network storage
        *("lost+found", "$recycle.bin", "system volume information", "__macosx"),  # file systems and archives
    ]
)
"""Folders, in lower case, that storage systems put beside the user's folders; they hold thumbnails or deleted files."""

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class ImageFile:
    """An image file. `shown` is its path relative to the folder that the user named; it can always be printed."""

    shown: str
    path: Path


@dataclass(frozen=True)
class RejectedFile:
    """A file that belongs to nobody or cannot be used: the class of the error and a sentence for people."""

    shown: str
    kind: type[ServiceError]
    detail: str


@dataclass(frozen=True)
class PeopleFolders:
    """Images by person in natural order, rejected files, and the helper folders that were skipped."""

    people: dict[str, list[ImageFile]] = field(default_factory=dict)
    rejected: list[RejectedFile] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def read_image_file(path: Path) -> bytes:
    """Read a regular file. Raises UnreadableImage with the reason; a pipe or a device is refused, not waited for."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableImage("it is not a regular file")
            return file.read()
    except OSError as error:
        raise UnreadableImage(error.strerror or type(error).__name__) from None


def find_people(paths: Sequence[str | Path], name: str | None = None) -> PeopleFolders:
    """Group image files by person.

    A folder of folders: one person per folder. A folder of images: one person with the folder's name. A file: one
    person with the file's name, without its suffix. Canonically equal names are one person. If `name` is given, all
    images show that person. Files in folders are skipped if their suffix is not that of an image.

    Raises NotFound for a path that does not exist. Raises InvalidRequest if a person's folder holds folders with
    images, or if two files from different folders would name the same person.
    """
    found = PeopleFolders()
    name = None if name is None else check_name(name)
    if name is None:
        _check_file_names([Path(path) for path in paths if not os.path.isdir(path)])
    for path in map(Path, paths):
        if not os.path.lexists(path):
            raise NotFound(f"{printable_path(path)} does not exist")
        if not os.path.isdir(path):
            _add(found, name or path.stem, ImageFile(printable_path(Path(path.name)), path))
        else:
            _add_folder(found, path, name)
    return found


def find_portraits(folder: Path) -> PeopleFolders:
    """The people of a folder of folders. Raises InvalidRequest if it holds none."""
    if not os.path.isdir(folder):
        raise InvalidRequest(f"{printable_path(folder)} is not a folder")
    found = find_people([folder])
    are_of_one_person = any(image.path.parent == folder for images in found.people.values() for image in images)
    if not found.people or are_of_one_person:
        raise InvalidRequest(f"{printable_path(folder)} holds no folder with images: it needs one folder per person")
    return found


def printable_path(path: Path) -> str:
    """The path as text that can be printed and stored: bytes that are not UTF-8 become escapes such as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key in natural order: numbers by value, letters without regard to case, then exactly."""
    parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in _DIGITS.split(name) if part]
    return tuple(parts), name


def _check_file_names(files: Sequence[Path]) -> None:
    """Refuse files of the same name from different folders: a/1.jpg and b/1.jpg seldom show the same person."""
    first: dict[str, Path] = {}
    for file in files:
        other = first.setdefault(canonical_name(file.stem), file)
        if other.parent.resolve() != file.parent.resolve():
            shown = [printable_path(each) for each in (other, file)]
            raise InvalidRequest(
                f"{shown[0]} and {shown[1]} would both be the person {printable_path(Path(file.stem))!r}: enroll a "
                "folder with one folder per person, or say with --name who is on all images"
            )


def _add_folder(found: PeopleFolders, folder: Path, name: str | None) -> None:
    entries = _entries(folder, found, folder)
    folders = [entry for entry in entries if os.path.isdir(entry)]
    for entry in entries:
        files = list(_files(entry, found, folder, frozenset()))
        if name is not None or not folders:
            person = name or folder.resolve().name
        elif os.path.isdir(entry):
            _check_no_folders(entry, files)
            person = entry.name
        else:
            reason = "the file lies beside folders of people"
            found.rejected.append(RejectedFile(printable_path(entry.relative_to(folder)), NoPerson, reason))
            continue
        for file in files:
            _add(found, person, ImageFile(printable_path(file.relative_to(folder)), file))


def _check_no_folders(person: Path, files: Sequence[Path]) -> None:
    """Refuse folders of images inside a person's folder: the user has most likely named a folder one level too high."""
    inner = list(dict.fromkeys(file.relative_to(person).parts[0] for file in files if file.parent != person))
    if inner:
        names = ", ".join(printable_path(Path(name)) for name in inner[:3]) + (", ..." if inner[3:] else "")
        shown = printable_path(person)
        raise InvalidRequest(
            f"{shown} holds folders ({names}), so it is not the folder of one person. For one person per folder: "
            f"enroll {shlex.quote(shown)}. If all images show one person: --name NAME"
        )


def _add(found: PeopleFolders, person: str, image: ImageFile) -> None:
    try:
        person.encode()
        found.people.setdefault(check_name(person), []).append(image)
    except UnicodeEncodeError:
        found.rejected.append(RejectedFile(image.shown, NoPerson, "the person's name is not UTF-8"))
    except InvalidRequest as error:
        found.rejected.append(RejectedFile(image.shown, NoPerson, error.detail or error.title))


def _files(entry: Path, found: PeopleFolders, root: Path, above: frozenset[Path]) -> Iterator[Path]:
    """The image files at or below an entry. A link to a folder above itself is not followed again."""
    if not os.path.isdir(entry):
        yield entry
    elif entry.resolve() not in above:
        for below in _entries(entry, found, root):
            yield from _files(below, found, root, above | {entry.resolve()})


def _entries(folder: Path, found: PeopleFolders, root: Path) -> list[Path]:
    """The folders and image files of a folder in natural order, without hidden entries and helper folders."""
    try:
        entries = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        found.rejected.append(RejectedFile(printable_path(folder.relative_to(root)), UnreadableImage, reason))
        return []
    kept = []
    for entry in entries:
        if entry.name.lower() in HELPER_FOLDERS and os.path.isdir(entry):
            found.skipped.append(printable_path(entry.relative_to(root)))
        elif not entry.name.startswith(".") and (os.path.isdir(entry) or entry.suffix.lower() in PICTURE_SUFFIXES):
            kept.append(entry)
    return kept
