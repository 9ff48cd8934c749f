"""The one encoder of statement values: the same Python value travels in the same form in every kind of statement.

`statements.py` encodes each value here, whether the statement runs inside a transaction or outside one. No value
carries a type: the server infers it from the statement, so a statement either works in both states or in neither.
A parameter that the server cannot place needs a cast, such as `CAST(%(names)s AS text[])`.

psycopg could encode inside a transaction, and did before: it sends a type with each value, the exchange of
`libpq.py` did not, and a list worked in one state and failed in the other.
"""

import json
import numbers
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format


class BinaryValue(bytes):
    """A value in the binary form that PostgreSQL receives, see `binary.py`."""


class TextValue(bytes):
    """A value as the text that PostgreSQL parses."""


Encoded = BinaryValue | TextValue | None


class _BinaryDumper(Dumper):
    format = Format.BINARY
    oid = 0

    def dump(self, obj: bytes) -> bytes:
        return bytes(obj)


class _TextDumper(_BinaryDumper):
    format = Format.TEXT


def register_dumpers(connection: psycopg.AsyncConnection[Any]) -> None:
    """Let psycopg send encoded values on `connection` as they are. The pool calls this for each new connection."""
    connection.adapters.register_dumper(BinaryValue, _BinaryDumper)
    connection.adapters.register_dumper(TextValue, _TextDumper)


def encode_all(values: Mapping[str, object]) -> dict[str, Encoded]:
    """Encode the values of one statement. Raises TypeError, with the name, if a value has an unknown type."""
    try:
        return {name: encode(value) for name, value in values.items()}
    except TypeError as error:
        name = next(name for name, value in values.items() if not _is_encodable(value))
        raise TypeError(f"{name}: {error}") from None


def encode(value: object) -> Encoded:
    """Encode one value.

    Bytes are sent as `bytea`; a dict as JSON; a list or tuple as a one-dimensional array of None, bool, int, float
    and str. Raises TypeError for any other type, and psycopg.DataError for a text with a NUL character.
    """
    encoder = _ENCODERS.get(type(value))
    if encoder is not None:
        return encoder(value)
    for kind, encoder in _BASES.items():  # subclasses, and the numbers of numpy
        if isinstance(value, kind):
            return encoder(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be sent to the database")


def _is_encodable(value: object) -> bool:
    try:
        encode(value)
    except TypeError:
        return False
    return True


def _encode_text(value: Any) -> TextValue:
    # libpq ends a text at its first NUL character: without this check the rest would be cut off in silence.
    if "\0" in value:
        raise psycopg.DataError("a text cannot hold a NUL character")
    return TextValue(value.encode())


def _encode_array(items: Any) -> TextValue:
    return _encode_text("{" + ",".join([_array_element(item) for item in items]) + "}")


def _array_element(item: object) -> str:
    if item is None:
        return "NULL"
    if isinstance(item, str):
        return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(item, bool | numbers.Real):
        return encode(item).decode()  # type: ignore[union-attr]
    raise TypeError(f"an array element of type {type(item).__name__} cannot be sent to the database")


_ENCODERS: dict[type, Callable[[Any], Encoded]] = {
    type(None): lambda _: None,
    BinaryValue: lambda value: value,
    TextValue: lambda value: value,
    bytes: BinaryValue,  # bytea has no other binary form
    bool: lambda value: TextValue(b"true" if value else b"false"),
    int: lambda value: TextValue(b"%d" % value),
    float: lambda value: TextValue(repr(value).encode()),
    str: _encode_text,
    dict: lambda value: _encode_text(json.dumps(value)),
    list: _encode_array,
    tuple: _encode_array,
}
_BASES: dict[type, Callable[[Any], Encoded]] = {
    str: _encode_text,
    numbers.Integral: lambda value: TextValue(b"%d" % int(value)),
    numbers.Real: lambda value: TextValue(repr(float(value)).encode()),
    date: lambda value: TextValue(value.isoformat().encode()),  # datetime is a subclass
    Mapping: lambda value: _encode_text(json.dumps(dict(value))),
}
