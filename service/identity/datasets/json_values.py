"""Splits a JSON file into its values, in bounded memory, without parsing them.

Written by hand, because a general streaming parser makes an event of every number: 99 us for a row of 512 numbers,
against 3 us here, where msgspec then reads all numbers of a row at once. It costs 150 lines. This module checks the
structure between the values; msgspec checks each value.
"""

import itertools
import re
from collections.abc import Iterator
from typing import BinaryIO

READ_BYTES = 256 * 1024
MAXIMUM_PIECE_BYTES = 4 * 1024 * 1024
"""Of one row, line, label or other value. An embedding of 4,000 numbers takes about 100 kB."""
MAXIMUM_DEPTH = 64

_SIGNIFICANT = re.compile(rb"[^ \t\r\n]")
_STRUCTURE = re.compile(rb'["\[\]{}]')
_SCALAR = re.compile(rb'[^ \t\r\n,:"\[\]{}]+')
_BACKSLASH = ord("\\")
_CLOSING = {b"[": b"]", b"{": b"}"}


class JsonValueError(Exception):
    """The file is not valid JSON here. The text says why and quotes nothing of the file."""


class JsonValues:
    """The values of a JSON file, from its beginning to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = b""
        self._position = 0

    def peek(self) -> str:
        """The next character that is not blank, or the empty string at the end of the file."""
        while True:
            found = _SIGNIFICANT.search(self._buffer, self._position)
            if found is not None:
                self._position = found.start()
                return found.group().decode("latin-1")
            self._position = len(self._buffer)
            if not self._read():
                return ""

    def take(self, expected: str) -> str:
        """Skip the next character, which must be one of `expected`."""
        found = self.peek()
        if not found:
            raise JsonValueError("the file ends here, in the middle of a value")
        if found not in expected:
            raise JsonValueError(f"expected {' or '.join(expected)}")
        self._position += 1
        return found

    def value(self) -> bytes:
        """The bytes of the next value. The caller checks that they are well-formed JSON."""
        if not self.peek():
            raise JsonValueError("the file ends here, in the middle of a value")
        while (end := _end_of_value(self._buffer, self._position)) is None:
            if len(self._buffer) - self._position > MAXIMUM_PIECE_BYTES:
                raise JsonValueError(f"longer than {MAXIMUM_PIECE_BYTES} bytes")
            if not self._read():
                raise JsonValueError("the file ends here, in the middle of a value")
        piece = self._buffer[self._position : end]
        if not piece:
            raise JsonValueError("a value is missing")
        self._position = end
        return piece

    def entries(self) -> Iterator[int]:
        """Step through the list that begins here: the number of each entry, from 1. The caller then reads its value."""
        return self._steps("[", "]")

    def items(self) -> Iterator[int]:
        """Step through the object that begins here: the number of each key, from 1. The caller then reads the key, the
        colon and the value.
        """
        return self._steps("{", "}")

    def end(self) -> None:
        """Check that only blanks follow."""
        if self.peek():
            raise JsonValueError("unexpected content after the end of the dataset")

    def _steps(self, opening: str, closing: str) -> Iterator[int]:
        self.take(opening)
        if self.peek() == closing:
            self.take(closing)
            return
        for number in itertools.count(1):
            yield number
            if self.take("," + closing) == closing:
                return

    def _read(self) -> bool:
        chunk = self._file.read(READ_BYTES)
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0
        return bool(chunk)


def _end_of_value(buffer: bytes, start: int) -> int | None:
    """End of the value at `start`, or None if the buffer ends first."""
    first = buffer[start : start + 1]
    if first == b'"':
        return _end_of_text(buffer, start)
    if first in (b"[", b"{"):
        return _end_of_nested(buffer, start)
    found = _SCALAR.match(buffer, start)
    if found is None:
        return start
    return found.end() if found.end() < len(buffer) else None


def _end_of_text(buffer: bytes, start: int) -> int | None:
    end = buffer.find(b'"', start + 1)
    while end != -1:
        before = end
        while buffer[before - 1] == _BACKSLASH:
            before -= 1
        if (end - before) % 2 == 0:
            return end + 1
        end = buffer.find(b'"', end + 1)
    return None


def _end_of_nested(buffer: bytes, start: int) -> int | None:
    expected: list[bytes] = []  # closing brackets that are still missing, the innermost last
    position: int | None = start
    while position is not None and (found := _STRUCTURE.search(buffer, position)) is not None:
        character, place = found.group(), found.start()
        position = place + 1
        if character == b'"':
            position = _end_of_text(buffer, place)
        elif character in _CLOSING:
            flat_end = _end_of_flat(buffer, place) if character == b"[" else 0
            if flat_end and not expected:
                return flat_end
            position = flat_end or position
            expected += [] if flat_end else [_CLOSING[character]]
        elif character != expected.pop():
            raise JsonValueError("brackets do not match")
        elif not expected:
            return position
        if len(expected) > MAXIMUM_DEPTH:
            raise JsonValueError("nested too deeply")
    return None


def _end_of_flat(buffer: bytes, start: int) -> int:
    """End of a list that holds no text, list or object, or 0. It is found without looking at each number."""
    end = buffer.find(b"]", start)
    if end == -1 or any(buffer.find(character, start + 1, end) != -1 for character in (b'"', b"[", b"{")):
        return 0
    return end + 1
