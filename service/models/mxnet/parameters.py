"""Reads MXNet's `.params` files: dense arrays by name, one at a time, never the whole file.

Every length is checked against the size of the file before anything is read, and errors name the place. Format: MXNet's
`NDArray::Save` and `NDArray::Load` in `src/ndarray/ndarray.cc`, versions 0.12 to 1.9.
"""

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from service.errors import InvalidModel

_LIST_MAGIC = 0x112
_V1_MAGIC = 0xF993FAC8  # dimensions of 64 bits
_V2_MAGIC = 0xF993FAC9  # and a storage type: dense or sparse
_V3_MAGIC = 0xF993FACA  # and NumPy's shapes: no dimensions is a number, -1 dimensions is no array
_MAXIMUM_DIMENSIONS = 32
_MAXIMUM_NAME_BYTES = 4096
_SMALLEST_ARRAY_BYTES = 4
_DENSE = 0

# MXNet's type flags (mshadow/base.h). Weights have one of the first three; the others are listed so that errors can
# name them.
_TYPES: dict[int, npt.DTypeLike] = {
    0: "<f4",
    1: "<f8",
    2: "<f2",
    3: "u1",
    4: "<i4",
    5: "i1",
    6: "<i8",
    7: "?",
    8: "<i2",
    9: "<u2",
    10: "<u4",
    11: "<u8",
}


@dataclass(frozen=True)
class StoredArray:
    """Position of a dense array in its file."""

    shape: tuple[int, ...]
    kind: np.dtype[np.generic]
    offset_bytes: int

    @property
    def length_bytes(self) -> int:
        """Bytes of the values, without the header."""
        return math.prod(self.shape) * self.kind.itemsize


class ParameterFile:
    """The arrays of one `.params` file by their names, without the prefixes `arg:` and `aux:`."""

    def __init__(self, path: Path, arrays: dict[str, StoredArray]) -> None:
        self.path = path
        self._arrays = arrays

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all arrays, in the order of the file."""
        return tuple(self._arrays)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the array. Raises InvalidModel if the file has none of that name."""
        return self._stored(name).shape

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """The array as float32. Raises InvalidModel if there is none, or if its numbers are not real."""
        stored = self._stored(name)
        if stored.kind.kind != "f":
            raise InvalidModel(f"{self.path.name}: parameter {name} holds {stored.kind.name}, not real numbers")
        with self.path.open("rb") as file:
            file.seek(stored.offset_bytes)
            values = np.fromfile(file, dtype=stored.kind, count=math.prod(stored.shape))
        if values.size != math.prod(stored.shape):
            raise InvalidModel(f"{self.path.name}: the file became shorter while parameter {name} was read")
        return values.reshape(stored.shape).astype(np.float32, copy=False)

    def _stored(self, name: str) -> StoredArray:
        if name not in self._arrays:
            raise InvalidModel(f"{self.path.name}: there is no parameter {name}")
        return self._arrays[name]


def open_parameters(path: Path) -> ParameterFile:
    """Read the headers and names of a `.params` file. Raises InvalidModel if it is damaged or truncated."""
    try:
        with path.open("rb") as file:
            return ParameterFile(path, _Headers(file, path).arrays_by_name())
    except OSError as error:
        raise InvalidModel(f"{path.name} cannot be read: {error.strerror}") from None


class _Headers:
    """One pass over the headers of a file. The values are skipped."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def arrays_by_name(self) -> dict[str, StoredArray]:
        if self._number("<Q", "the file's magic number") != _LIST_MAGIC:
            raise self._damaged("not an MXNet parameter file (its first number is not 0x112)", at=0)
        self._number("<Q", "the reserved number")
        count = self._count(_SMALLEST_ARRAY_BYTES, "the number of arrays")
        arrays = [self._array(place) for place in range(count)]
        names = self._names(count)
        if self._file.tell() != self._size:
            raise self._damaged("there are bytes after the last name")
        return self._paired(names, arrays)

    def _paired(self, names: list[str], arrays: list[StoredArray | None]) -> dict[str, StoredArray]:
        found: dict[str, StoredArray] = {}
        for name, array in zip(names, arrays, strict=True):
            bare = name.removeprefix("arg:").removeprefix("aux:")
            if bare in found:
                raise self._damaged(f"the name {bare} occurs twice")
            if array is not None:
                found[bare] = array
        return found

    def _names(self, count: int) -> list[str]:
        named = self._count(8, "the number of names")
        if named != count:
            raise self._damaged(f"{named} names for {count} arrays")
        return [self._name(place) for place in range(named)]

    def _name(self, place: int) -> str:
        start = self._file.tell()
        length = self._number("<Q", f"the length of name {place}")
        if length > _MAXIMUM_NAME_BYTES:
            raise self._damaged(f"name {place} has a length of {length} bytes", at=start)
        try:
            return self._bytes(length, f"name {place}").decode()
        except UnicodeDecodeError:
            raise self._damaged(f"name {place} is not UTF-8", at=start) from None

    def _array(self, place: int) -> StoredArray | None:
        """Header of one array; its values are skipped. None for an array without a shape."""
        what, start = f"array {place}", self._file.tell()
        shape = self._shape(what, start)
        if shape is None:
            return None
        self._bytes(8, f"the device of {what}")
        flag = self._number("<i", f"the type of {what}")
        if flag not in _TYPES:
            raise self._damaged(f"{what} has the unknown type {flag}", at=start)
        stored = StoredArray(shape, np.dtype(_TYPES[flag]), self._file.tell())
        if stored.length_bytes > self._size - stored.offset_bytes:
            raise self._damaged(f"{what} of shape {shape} reaches beyond the end of the file", at=start)
        self._file.seek(stored.length_bytes, io.SEEK_CUR)
        return stored

    def _shape(self, what: str, start: int) -> tuple[int, ...] | None:
        first = self._number("<I", f"the header of {what}")
        if first not in (_V1_MAGIC, _V2_MAGIC, _V3_MAGIC):
            return self._dimensions(first, "<I", what, start) if first else None
        if first != _V1_MAGIC and self._number("<i", f"the storage type of {what}") != _DENSE:
            raise self._damaged(f"{what} is sparse; only dense arrays are supported", at=start)
        count = self._number("<i", f"the dimensions of {what}")
        absent = -1 if first == _V3_MAGIC else 0
        return None if count == absent else self._dimensions(count, "<q", what, start)

    def _dimensions(self, count: int, form: str, what: str, start: int) -> tuple[int, ...]:
        if not 0 <= count <= _MAXIMUM_DIMENSIONS:
            raise self._damaged(f"{what} has {count} dimensions", at=start)
        shape = tuple(self._number(form, f"the shape of {what}") for _ in range(count))
        if any(size < 0 for size in shape):
            raise self._damaged(f"{what} has a negative dimension", at=start)
        return shape

    def _count(self, smallest_bytes: int, what: str) -> int:
        """A count of items, each of at least that many bytes. A damaged count cannot make a long loop."""
        start = self._file.tell()
        count = self._number("<Q", what)
        if count * smallest_bytes > self._size - self._file.tell():
            raise self._damaged(f"{what} is {count}, more than the file can hold", at=start)
        return count

    def _number(self, form: str, what: str) -> int:
        return int(struct.unpack(form, self._bytes(struct.calcsize(form), what))[0])

    def _bytes(self, length: int, what: str) -> bytes:
        start = self._file.tell()
        read = self._file.read(length)
        if len(read) < length:
            raise self._damaged(f"the file ends in {what}", at=start)
        return read

    def _damaged(self, what: str, at: int | None = None) -> InvalidModel:
        place = self._file.tell() if at is None else at
        return InvalidModel(f"{self._path.name}, byte {place}: {what}")
