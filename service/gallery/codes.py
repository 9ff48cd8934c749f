"""Codes of embeddings: on which side of random hyperplanes each lies; Hamming distance then tells the angle, nearly.

The hyperplanes come in orthogonal sets, which tell more than independent ones: a random flip of signs, then a
Hadamard matrix. They are the same everywhere and for good: codes made from them are stored.
This holds for embeddings centered on zero; the embedding space decides.
"""

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from service.embedding import EmbeddingSpace

MINIMUM_DIMENSION = 256
FACE_BITS = 512
"""Fits beside a halfvec of 512 dimensions without costing it a place on the page."""
TEMPLATE_BITS = 1024
"""Templates are few, and twice the bits let ten times fewer people be reranked."""

_SEED = b"face identity service: hyperplanes"

Codes = npt.NDArray[np.uint8]
"""Packed bits, shape (count, bits / 8)."""
_Matrix = npt.NDArray[np.float32]


def has_codes(space: EmbeddingSpace) -> bool:
    """Whether codes carry enough in this space; else the search reads the vectors themselves."""
    return space.metric == "cosine" and space.dimension >= MINIMUM_DIMENSION


def face_codes(embeddings: _Matrix) -> Codes:
    """One code an embedding, from shape (count, dimension)."""
    return _codes(embeddings, FACE_BITS)


def template_codes(embeddings: _Matrix) -> Codes:
    """One code a template (or a probe to be compared with templates), from shape (count, dimension)."""
    return _codes(embeddings, TEMPLATE_BITS)


def _codes(embeddings: _Matrix, bits: int) -> Codes:
    count, dimension = embeddings.shape
    signs, left, right = _hyperplanes(dimension, bits)
    sets, width = signs.shape
    padded = embeddings
    if dimension < width:
        padded = np.zeros((count, width), dtype=np.float32)
        padded[:, :dimension] = embeddings
    flipped = (padded[:, np.newaxis, :] * signs).reshape(count, sets, len(left), len(right))
    # A Hadamard matrix is the Kronecker product of two smaller ones: two small products in place of a large one.
    sides = (left @ flipped @ right).reshape(count, sets, width)[:, :, : bits // sets] > 0
    return np.packbits(sides.reshape(count, bits), axis=1)


@lru_cache(maxsize=64)
def _hyperplanes(dimension: int, bits: int) -> tuple[_Matrix, _Matrix, _Matrix]:
    """Signs, shape (sets, width), and two Hadamard matrices whose sizes multiply to `width`, a power of two."""
    exponent = max(1, (dimension - 1).bit_length())
    width = 1 << exponent
    sets = max(1, bits // width)
    flips = np.frombuffer(hashlib.shake_256(_SEED).digest(sets * width // 8 or 1), dtype=np.uint8)
    signs = 1.0 - 2.0 * np.unpackbits(flips)[: sets * width].reshape(sets, width).astype(np.float32)
    return signs, _hadamard(exponent // 2), _hadamard(exponent - exponent // 2)


def _hadamard(exponent: int) -> _Matrix:
    matrix = np.ones((1, 1), dtype=np.float32)
    for _ in range(exponent):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix
