"""Exact values of references: how they are stored, and the stream of all references with them.

Exact values are float32 if that loses nothing, else float64, little-endian. The length tells which of the two it is:
four or eight bytes per number. Searches compare vectors of half precision instead.

A stream may last as long as its reader likes, and a transaction that is open for hours keeps erased rows in the tables
and a connection from others. So a stream reads in short transactions and holds no connection while its reader works:

- The first transaction reads the keys of all references: 16 bytes each, in the order of the stream.
- Each further transaction reads every reference of the next people. References whose turn has not come are parked in
  a temporary file.

So the stream has every reference of the moment when it began, except those of people who were erased before their turn.
A person is never half in it, because all references of a person are read at one moment.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.binary import big_integers
from service.database.identifiers import to_text
from service.database.session import release_connection
from service.database.spooling import spool
from service.errors import NotFound
from service.gallery.galleries import Gallery

ROWS_AT_ONCE = 500
_KEYS_AT_ONCE = 10_000
_PARKED_IN_MEMORY_BYTES = 8 * 1024 * 1024

_SELECT_KEYS = text("""
    SELECT person_id, face_id, face_id FROM face_detail
    WHERE tenant_id = :tenant AND gallery_id = :gallery
    ORDER BY face_id
""")
_SELECT_KEYS_BY_NAME = text("""
    SELECT person_id, face_id, min(face_id) OVER (PARTITION BY person.name) AS first
    FROM face_detail JOIN person USING (tenant_id, gallery_id)
    WHERE tenant_id = :tenant AND gallery_id = :gallery AND person.id = face_detail.person_id
    ORDER BY first, face_id
""")
_SELECT_REFERENCES = text("""
    SELECT person.name, person.external_id, CAST(person.metadata AS text), original, CAST(source AS text), face_id
    FROM unnest(CAST(:people AS bigint[])) AS wanted (id)
    JOIN person ON person.tenant_id = :tenant AND person.gallery_id = :gallery AND person.id = wanted.id
    JOIN face_detail ON face_detail.tenant_id = :tenant AND face_detail.gallery_id = :gallery
        AND face_detail.person_id = wanted.id
""")
_SELECT_GALLERY = text("SELECT FROM gallery WHERE tenant_id = :tenant AND id = :gallery")


@dataclass(frozen=True)
class Reference:
    """A stored reference and its person. `values` are the exact numbers of the enrollment, shape (dimension,)."""

    name: str
    external_id: str | None
    metadata: dict[str, Any]
    values: npt.NDArray[np.float64]
    source: Any | None
    face_id: str


def to_bytes(values: Sequence[float] | npt.NDArray[np.floating]) -> bytes:
    """The bytes of finite numbers, without loss."""
    wide = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f4")
    return (narrow if np.array_equal(narrow.astype(np.float64), wide) else wide.astype("<f8")).tobytes()


def from_bytes(content: bytes, dimension: int) -> npt.NDArray[np.float64]:
    """The numbers in the bytes that `to_bytes` made, shape (dimension,)."""
    return np.frombuffer(content, dtype="<f4" if len(content) == 4 * dimension else "<f8").astype(np.float64)


async def stream_references(
    session: AsyncSession, gallery: Gallery, *, by_name: bool = False
) -> AsyncIterator[Reference]:
    """Stream all references in the order of enrollment, in short transactions unless the session has begun one.

    `by_name` groups them by name; the groups are in the order of their first reference. Raises NotFound at the end if
    the gallery was deleted meanwhile.
    """
    is_in_transaction = session.in_transaction()
    keys = await _read_keys(session, gallery, by_name=by_name)
    if not len(keys.faces):
        return
    with closing(spool(session, _PARKED_IN_MEMORY_BYTES)) as file:
        parked = _Parked(file, keys.faces)
        name: str | None = None
        for start in range(0, len(keys.faces), ROWS_AT_ONCE):
            end = start + ROWS_AT_ONCE
            people = keys.people[start:end][keys.is_first_of_person[start:end]]
            if len(people):
                await _park(session, gallery, people.tolist(), parked)
            if not is_in_transaction:
                await release_connection(session)
            for position in range(start, min(end, len(keys.faces))):
                name = None if keys.starts_group[position] else name
                if (row := parked.take(position)) is not None:
                    name = name or row.name  # somebody of the group who was renamed meanwhile does not split it
                    yield _reference(row, name, gallery)
            if parked.is_empty:
                parked.clear()
    await _check_existence(session, gallery, is_in_transaction=is_in_transaction)


class _Keys(NamedTuple):
    """The numbers of all references and of their people in the order of the stream, each of shape (count,).

    A group is the references of one name, or a single reference if the stream is not grouped.
    """

    people: npt.NDArray[np.int64]
    faces: npt.NDArray[np.int64]
    is_first_of_person: npt.NDArray[np.bool_]
    starts_group: npt.NDArray[np.bool_]


class _Row(NamedTuple):
    name: str
    external_id: str | None
    metadata: str
    original: bytes
    source: str | None
    face_id: int


_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(_Row)


class _Parked:
    """Rows that were read and whose turn has not come, in a file. Rows of references without a turn are dropped."""

    def __init__(self, file: BinaryIO, faces: npt.NDArray[np.int64]) -> None:
        self._file = file
        self._faces = faces
        self._order = np.argsort(faces, kind="stable")
        self._offsets = np.full(len(faces), -1, dtype=np.int64)
        self._sizes = np.zeros(len(faces), dtype=np.int64)
        self._count = 0

    @property
    def is_empty(self) -> bool:
        return self._count == 0

    def add(self, rows: Sequence[_Row]) -> None:
        wanted = np.array([row.face_id for row in rows], dtype=np.int64)
        places = np.minimum(np.searchsorted(self._faces, wanted, sorter=self._order), len(self._faces) - 1)
        positions = self._order[places]
        offset = self._file.seek(0, 2)
        for row, position in zip(rows, positions, strict=True):
            if self._faces[position] == row.face_id:  # else it was enrolled after the stream began
                size = self._file.write(_packer.encode(row))
                self._offsets[position], self._sizes[position] = offset, size
                offset += size
                self._count += 1

    def take(self, position: int) -> _Row | None:
        """The row with that place in the stream; None if its person was erased before it was read."""
        if self._offsets[position] < 0:
            return None
        self._count -= 1
        self._file.seek(int(self._offsets[position]))
        return _unpacker.decode(self._file.read(int(self._sizes[position])))

    def clear(self) -> None:
        """Free the space of the rows that were taken."""
        self._file.seek(0)
        self._file.truncate()


async def _read_keys(session: AsyncSession, gallery: Gallery, *, by_name: bool) -> _Keys:
    statement = _SELECT_KEYS_BY_NAME if by_name else _SELECT_KEYS
    rows = await session.stream(statement, _of(gallery), execution_options={"yield_per": _KEYS_AT_ONCE})
    parts = [np.array(part, dtype=np.int64) async for part in rows.partitions()]
    people, faces, groups = np.concatenate([*parts, np.empty((0, 3), dtype=np.int64)]).T
    is_first = np.zeros(len(people), dtype=np.bool_)
    is_first[np.unique(people, return_index=True)[1]] = True
    return _Keys(people, faces, is_first, np.diff(groups, prepend=-1) != 0)


async def _park(session: AsyncSession, gallery: Gallery, people: list[int], parked: _Parked) -> None:
    values = _of(gallery) | {"people": big_integers(people)}
    rows = await session.stream(_SELECT_REFERENCES, values, execution_options={"yield_per": ROWS_AT_ONCE})
    async for part in rows.partitions():
        parked.add([_Row(*row) for row in part])


async def _check_existence(session: AsyncSession, gallery: Gallery, *, is_in_transaction: bool) -> None:
    """The rest of a deleted gallery is missing in the stream, so the stream must not end like a whole one."""
    exists = (await session.execute(_SELECT_GALLERY, _of(gallery))).first() is not None
    if not is_in_transaction:
        await release_connection(session)
    if not exists:
        raise NotFound(f"gallery {gallery.name!r} was deleted while it was read")


def _of(gallery: Gallery) -> dict[str, Any]:
    return {"tenant": gallery.tenant_id, "gallery": gallery.id}


def _reference(row: _Row, name: str, gallery: Gallery) -> Reference:
    values = from_bytes(row.original, gallery.space.dimension)
    source = None if row.source is None else json.loads(row.source)
    return Reference(name, row.external_id, json.loads(row.metadata), values, source, to_text(row.face_id))
