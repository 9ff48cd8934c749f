"""Decimal numbers as embeddings: exactly the float64 that Python's own float() gives, only faster."""

import re

import msgspec
import numpy as np
import numpy.typing as npt

from service.errors import InvalidEmbedding

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_list_of_numbers = msgspec.json.Decoder(list[float])


def numbers_of_csv(text: str) -> npt.NDArray[np.float64]:
    """The numbers of a text separated by commas, shape (dimension,).

    InvalidEmbedding names the place of what is no number or not finite.
    """
    try:
        return np.array(_list_of_numbers.decode(f"[{text}]"), dtype=np.float64)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return np.array([_number(part.strip(), place) for place, part in enumerate(text.split(","))])


def _number(text: str, place: int) -> float:
    """For spellings that JSON has not, such as `1.` or `+.5`, and to say which number is wrong."""
    if not text:
        raise InvalidEmbedding(f"number {place} (counted from 0) is missing")
    if _NOT_FINITE.fullmatch(text):
        raise InvalidEmbedding(f"number {place} (counted from 0) is not finite")
    if not _DECIMAL.fullmatch(text):
        raise InvalidEmbedding(f"number {place} (counted from 0) is not a number")
    return float(text)
