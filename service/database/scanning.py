"""Searches every file of a folder for markers: the bytes of a name or of an embedding, in each form that is stored."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.errors import InvalidRequest

CHUNK_BYTES = 8 * 1024 * 1024
_LEAST_BYTES = 4
_PIECE_BYTES = 64
_MOST_MARKERS = 1000


@dataclass(frozen=True)
class Marker:
    """Something to search for. `number` is its line in the list of markers, which is shown in its place."""

    number: int
    form: str
    """text, float32, float64 or float16: the form of the bytes."""
    content: bytes

    @property
    def pieces(self) -> list[bytes]:
        """Beginning, middle and end of the bytes: a long value is cut into pieces of two kilobytes (TOAST), and the
        write-ahead log has a header in each eight kilobytes. A piece of an embedding occurs nowhere else by chance.
        """
        size = len(self.content)
        if size <= 3 * _PIECE_BYTES:
            return [self.content]
        return [self.content[start : start + _PIECE_BYTES] for start in (0, size // 2, size - _PIECE_BYTES)]


@dataclass(frozen=True)
class Sighting:
    """A file that contains a marker."""

    file: str
    number: int
    form: str


@dataclass(frozen=True)
class Scan:
    """What was searched and what was found. `unreadable`: files that could not be read."""

    files: int
    bytes: int
    found: list[Sighting]
    unreadable: list[str]


def read_markers(lines: Iterable[str]) -> list[Marker]:
    """The markers of a list: each line is a text, such as a name, or an embedding as a JSON list of numbers.

    Raises InvalidRequest for a text of fewer than 4 bytes, which would be found by chance.
    """
    markers = [marker for number, line in enumerate(lines, 1) if (text := line.strip()) for marker in _of(number, text)]
    if len(markers) > _MOST_MARKERS:
        raise InvalidRequest(f"at most {_MOST_MARKERS} markers are searched for at a time")
    return markers


def _of(number: int, text: str) -> Iterator[Marker]:
    if not text.startswith("["):
        if len(text.encode()) < _LEAST_BYTES:
            raise InvalidRequest(f"line {number}: a marker has at least {_LEAST_BYTES} bytes")
        yield Marker(number, "text", text.encode())
        return
    try:
        values = np.array(json.loads(text), dtype=np.float64)
    except (ValueError, TypeError):
        values = np.empty(0)
    if values.ndim != 1 or len(values) < _LEAST_BYTES or not np.isfinite(values).all():
        raise InvalidRequest(f"line {number}: an embedding is a list of at least {_LEAST_BYTES} finite numbers")
    with np.errstate(over="ignore"):
        yield Marker(number, "float64", values.astype("<f8").tobytes())
        yield Marker(number, "float32", values.astype("<f4").tobytes())
        # A reference is compared in half precision; if the metric is cosine, with unit length.
        for vector in (values, values / (np.linalg.norm(values) or 1)):
            yield Marker(number, "float16", vector.astype("<f4").astype("<f2").tobytes())


def scan_folder(folder: Path, markers: list[Marker]) -> Scan:
    """Search all files below a folder. Blocks: as long as reading them takes."""
    count = size = 0
    found: list[Sighting] = []
    unreadable: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            size += path.stat().st_size
            seen = _markers_in(path, markers)
        except FileNotFoundError:
            continue  # removed by the running server
        except OSError:
            unreadable.append(str(path.relative_to(folder)))
            continue
        count += 1
        found += [Sighting(str(path.relative_to(folder)), marker.number, marker.form) for marker in seen]
    return Scan(count, size, found, unreadable)


def _markers_in(path: Path, markers: list[Marker]) -> list[Marker]:
    overlap = max((len(marker.content) for marker in markers), default=1) - 1
    seen: dict[Marker, None] = {}
    with path.open("rb") as file:
        rest = b""
        while chunk := file.read(CHUNK_BYTES):
            window = rest + chunk
            seen |= {marker: None for marker in markers if any(piece in window for piece in marker.pieces)}
            rest = window[len(window) - overlap :] if overlap else b""
    return list(seen)
