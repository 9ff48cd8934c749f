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
MAXIMUM_PIECE_BYTES = 1024 * 1024
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
        value_end = _ValueEnd()
        while (end := value_end.find(self._buffer, self._position)) is None:
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


class _ValueEnd:
    """Finds the end of one value while the buffer grows, without reading any part of it again.

    Two rows of 4 MB took 17 to 35 s when each was searched from its beginning after each read.
    """

    def __init__(self) -> None:
        self._seen = 0  # bytes of the value, from its beginning
        self._expected: list[bytes] = []  # closing brackets that are still missing, the innermost last
        self._is_in_text = False

    def find(self, buffer: bytes, start: int) -> int | None:
        """End of the value that begins at `start`, or None if the buffer ends first."""
        if buffer[start] not in b'"[{':
            return self._end_of_scalar(buffer, start)
        place: int | None = start + self._seen
        while place is not None:
            if self._is_in_text:
                place = _end_of_text(buffer, place)
                self._is_in_text = place is None
                if place is not None and not self._expected:
                    return place
            elif (found := _STRUCTURE.search(buffer, place)) is None:
                place = None
            else:
                place = self._step(buffer, found.group(), found.start())
                if not self._expected and not self._is_in_text:
                    return place
        self._seen = len(buffer) - start
        return None

    def _step(self, buffer: bytes, character: bytes, place: int) -> int:
        """Go over one character of structure. Returns the place behind it, or behind a list of numbers."""
        if character == b'"':
            self._is_in_text = True
        elif character in _CLOSING:
            if character == b"[" and (flat_end := _end_of_flat(buffer, place)):
                return flat_end
            self._expected.append(_CLOSING[character])
            if len(self._expected) > MAXIMUM_DEPTH:
                raise JsonValueError("nested too deeply")
        elif character != self._expected.pop():
            raise JsonValueError("brackets do not match")
        return place + 1

    def _end_of_scalar(self, buffer: bytes, start: int) -> int | None:
        found = _SCALAR.match(buffer, start + self._seen)
        end = start + self._seen if found is None else found.end()
        self._seen = end - start
        return end if end < len(buffer) else None


def _end_of_text(buffer: bytes, place: int) -> int | None:
    """The place behind the quote that ends the text in which `place` lies."""
    end = buffer.find(b'"', place)
    while end != -1:
        before = end
        while buffer[before - 1] == _BACKSLASH:
            before -= 1
        if (end - before) % 2 == 0:
            return end + 1
        end = buffer.find(b'"', end + 1)
    return None


def _end_of_flat(buffer: bytes, start: int) -> int:
    """End of a list that holds no text, list or object, or 0. It is found without looking at each number."""
    end = buffer.find(b"]", start)
    if end == -1 or any(buffer.find(character, start + 1, end) != -1 for character in (b'"', b"[", b"{")):
        return 0
    return end + 1
