"""Decimal numbers of a text, separated by commas, as an embedding: exactly the float64 values that float() gives.

msgspec reads all numbers of a text at once if they are written as JSON has it (3 us for 512 numbers). Any other
spelling, and any mistake, takes the slow way of one number at a time.

The text comes from a client, so both the number of numbers and their length are bounded before anything is parsed, and
the patterns match in linear time (tests/architecture/test_patterns.py proves it for all patterns of the program). The
digits of an earlier pattern could match in two ways; it took 14 s for 20 kB and held the interpreter lock meanwhile.
"""

import re

import msgspec
import numpy as np
import numpy.typing as npt

from service.embedding import MAXIMUM_DIMENSION
from service.errors import InvalidEmbedding

MAXIMUM_NUMBER_LENGTH = 2000
"""Characters of one number. The longest exact decimal of a float64 has 1,077."""

_DECIMAL = re.compile(r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_list_of_numbers = msgspec.json.Decoder(list[float])


def parse_decimals(text: str) -> npt.NDArray[np.float64]:
    """The numbers of `text`, shape (count,). Raises InvalidEmbedding, which names the place of a wrong number."""
    count = text.count(",") + 1
    if count > MAXIMUM_DIMENSION:
        raise InvalidEmbedding(f"{count} numbers, at most {MAXIMUM_DIMENSION} are allowed")
    if len(text) > count * MAXIMUM_NUMBER_LENGTH:
        return _one_by_one(text)
    try:
        return np.array(_list_of_numbers.decode(f"[{text}]"), dtype=np.float64)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return _one_by_one(text)


def _one_by_one(text: str) -> npt.NDArray[np.float64]:
    return np.array([_number(part.strip(), index) for index, part in enumerate(text.split(","))])


def _number(text: str, index: int) -> float:
    """One number, also in spellings that JSON does not have (`1.`, `+.5`)."""
    if not text:
        raise InvalidEmbedding(f"number {index} (counted from 0) is missing")
    if len(text) > MAXIMUM_NUMBER_LENGTH:
        raise InvalidEmbedding(f"number {index} (counted from 0) is longer than {MAXIMUM_NUMBER_LENGTH} characters")
    if _NOT_FINITE.fullmatch(text):
        raise InvalidEmbedding(f"number {index} (counted from 0) is not finite")
    if not _DECIMAL.fullmatch(text):
        raise InvalidEmbedding(f"number {index} (counted from 0) is not a number")
    return float(text)
