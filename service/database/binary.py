"""Encodes vectors, codes and identifiers in PostgreSQL's binary form.

psycopg could send them as text. An import sends arrays of a thousand vectors: as text each number is formatted here
and parsed by the server, in binary form the array is copied.
Each value needs an explicit cast in its statement (`CAST(:codes AS varbit[])`), from which the server infers the type.
The formats are those of array_recv and varbit_recv in PostgreSQL and halfvec_recv in pgvector.
"""

import struct
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.statements import fetch_rows
from service.database.values import BinaryValue
from service.embedding import Embedding

_BIGINT = 20
_VARBIT = 1562
_half_vector_types: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()


async def half_vector_type(session: AsyncSession) -> int:
    """The object identifier of pgvector's type halfvec in this database. Read once for each engine."""
    engine = session.get_bind().engine
    if engine not in _half_vector_types:
        ((number,),) = await fetch_rows(session, "SELECT CAST(CAST('halfvec' AS regtype) AS oid)", {})
        _half_vector_types[engine] = int(number)
    return _half_vector_types[engine]


def half_vectors(matrix: npt.NDArray[np.float32], type_number: int) -> BinaryValue:
    """Encode the rows of `matrix`, shape (count, dimension), as `halfvec[]`."""
    rows, dimension = matrix.shape
    layout = [("size", ">i4"), ("dimension", ">i2"), ("unused", ">i2"), ("values", ">f2", (dimension,))]
    elements = np.zeros(rows, dtype=np.dtype(layout))
    elements["size"] = 4 + 2 * dimension
    elements["dimension"] = dimension
    elements["values"] = matrix
    return _array(type_number, rows, elements.tobytes())


def half_vector(vector: Embedding) -> BinaryValue:
    """Encode a vector, shape (dimension,), as `halfvec`."""
    return BinaryValue(struct.pack(">hh", len(vector), 0) + vector.astype(">f2").tobytes())


def bit_string(code: npt.NDArray[np.uint8]) -> BinaryValue:
    """Encode packed bits, shape (bytes,), as `varbit`."""
    return BinaryValue(struct.pack(">i", 8 * len(code)) + code.tobytes())


def bit_strings(codes: npt.NDArray[np.uint8]) -> BinaryValue:
    """Encode packed bits, shape (count, bytes), as `varbit[]`."""
    rows, size = codes.shape
    elements = np.zeros(rows, dtype=np.dtype([("size", ">i4"), ("bits", ">i4"), ("code", "u1", (size,))]))
    elements["size"] = 4 + size
    elements["bits"] = 8 * size
    elements["code"] = codes
    return _array(_VARBIT, rows, elements.tobytes())


def big_integers(values: Sequence[int] | npt.NDArray[np.int64]) -> BinaryValue:
    """Encode 64-bit integers as `bigint[]`."""
    elements = np.zeros(len(values), dtype=np.dtype([("size", ">i4"), ("value", ">i8")]))
    elements["size"] = 8
    elements["value"] = values
    return _array(_BIGINT, len(values), elements.tobytes())


def read_half_vector(content: bytes) -> Embedding:
    """Decode the binary form of a `halfvec`, as `halfvec_send` returns it. Returns shape (dimension,), float32."""
    return np.frombuffer(content, dtype=">f2", offset=4).astype(np.float32)


def _array(type_number: int, count: int, elements: bytes) -> BinaryValue:
    if count == 0:
        return BinaryValue(struct.pack(">iiI", 0, 0, type_number))
    return BinaryValue(struct.pack(">iiIii", 1, 0, type_number, count, 1) + elements)
