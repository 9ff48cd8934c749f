"""Vectors, codes and identifiers in PostgreSQL's binary form: arrays of thousands without a text in between.

Every value stands under an explicit cast in its statement (`CAST(:codes AS varbit[])`), which is how the server
knows its type. Formats: array_recv, varbit_recv in PostgreSQL, halfvec_recv in pgvector.
"""

import struct
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from psycopg import adapters
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.statements import fetch_rows
from service.embedding import Embedding

_BIGINT = 20
_VARBIT = 1562
_half_vector_types: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()


class WireValue(bytes):
    """Bytes that are already what PostgreSQL receives."""


class _WireDumper(Dumper):
    format = Format.BINARY
    oid = 0

    def dump(self, obj: WireValue) -> bytes:
        return bytes(obj)


adapters.register_dumper(WireValue, _WireDumper)


async def half_vector_type(session: AsyncSession) -> int:
    """The number of pgvector's halfvec in this database, asked once an engine."""
    engine = session.get_bind().engine
    if engine not in _half_vector_types:
        ((found,),) = await fetch_rows(session, "SELECT CAST(CAST('halfvec' AS regtype) AS oid)", {})
        _half_vector_types[engine] = int(found)
    return _half_vector_types[engine]


def half_vectors(matrix: npt.NDArray[np.float32], type_number: int) -> WireValue:
    """`halfvec[]` of the rows of `matrix`, shape (count, dimension)."""
    rows, dimension = matrix.shape
    layout = [("size", ">i4"), ("dimension", ">i2"), ("unused", ">i2"), ("values", ">f2", (dimension,))]
    elements = np.zeros(rows, dtype=np.dtype(layout))
    elements["size"] = 4 + 2 * dimension
    elements["dimension"] = dimension
    elements["values"] = matrix
    return _array(type_number, rows, elements.tobytes())


def half_vector(vector: Embedding) -> WireValue:
    """One `halfvec`."""
    return WireValue(struct.pack(">hh", len(vector), 0) + vector.astype(">f2").tobytes())


def bit_string(code: npt.NDArray[np.uint8]) -> WireValue:
    """One `varbit` of packed bits."""
    return WireValue(struct.pack(">i", 8 * len(code)) + code.tobytes())


def bit_strings(codes: npt.NDArray[np.uint8]) -> WireValue:
    """`varbit[]` of packed bits, shape (count, bytes)."""
    rows, size = codes.shape
    elements = np.zeros(rows, dtype=np.dtype([("size", ">i4"), ("bits", ">i4"), ("code", "u1", (size,))]))
    elements["size"] = 4 + size
    elements["bits"] = 8 * size
    elements["code"] = codes
    return _array(_VARBIT, rows, elements.tobytes())


def big_integers(values: Sequence[int] | npt.NDArray[np.int64]) -> WireValue:
    """`bigint[]`."""
    elements = np.zeros(len(values), dtype=np.dtype([("size", ">i4"), ("value", ">i8")]))
    elements["size"] = 8
    elements["value"] = values
    return _array(_BIGINT, len(values), elements.tobytes())


def read_half_vector(content: bytes) -> Embedding:
    """The numbers in what `halfvec_send` gives."""
    return np.frombuffer(content, dtype=">f2", offset=4).astype(np.float32)


def _array(type_number: int, count: int, elements: bytes) -> WireValue:
    if count == 0:
        return WireValue(struct.pack(">iiI", 0, 0, type_number))
    return WireValue(struct.pack(">iiIii", 1, 0, type_number, count, 1) + elements)
