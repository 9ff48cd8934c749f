"""Exact values of embeddings: float32 if that loses nothing, else float64, little-endian.

The length tells which of the two it is: four or eight bytes per number.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def to_bytes(values: Sequence[float] | npt.NDArray[np.floating]) -> bytes:
    """The bytes of finite numbers, without loss."""
    wide = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f4")
    return (narrow if np.array_equal(narrow.astype(np.float64), wide) else wide.astype("<f8")).tobytes()


def from_bytes(content: bytes, dimension: int) -> npt.NDArray[np.float64]:
    """The numbers in the bytes that `to_bytes` made, shape (dimension,)."""
    return np.frombuffer(content, dtype="<f4" if len(content) == 4 * dimension else "<f8").astype(np.float64)
