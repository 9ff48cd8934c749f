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

# Each its own, so that a stranger whose template is near by chance is near by chance only once: with the same
# hyperplanes two fifths of such a person's faces were near too, with others a fifth.
_OF_FACES = b"face identity service: hyperplanes of faces"
_OF_TEMPLATES = b"face identity service: hyperplanes"

Codes = npt.NDArray[np.uint8]
"""Packed bits, shape (count, bits / 8)."""
_Matrix = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.intp]


def has_codes(space: EmbeddingSpace) -> bool:
    """Whether codes carry enough in this space; else the search reads the vectors themselves."""
    return space.metric == "cosine" and space.dimension >= MINIMUM_DIMENSION


def face_codes(embeddings: _Matrix) -> Codes:
    """One code an embedding, from shape (count, dimension)."""
    return _codes(embeddings, FACE_BITS, _OF_FACES)


def template_codes(embeddings: _Matrix) -> Codes:
    """One code a template (or a probe to be compared with templates), from shape (count, dimension)."""
    return _codes(embeddings, TEMPLATE_BITS, _OF_TEMPLATES)


def _codes(embeddings: _Matrix, bits: int, seed: bytes) -> Codes:
    count, dimension = embeddings.shape
    signs, left, right, rows = _hyperplanes(dimension, bits, seed)
    sets, width = signs.shape
    padded = embeddings
    if dimension < width:
        padded = np.zeros((count, width), dtype=np.float32)
        padded[:, :dimension] = embeddings
    flipped = (padded[:, np.newaxis, :] * signs).reshape(count, sets, len(left), len(right))
    # A Hadamard matrix is the Kronecker product of two smaller ones: two small products in place of a large one.
    sides = (left @ flipped @ right).reshape(count, sets, width)[:, :, rows] > 0
    return np.packbits(sides.reshape(count, bits), axis=1)


@lru_cache(maxsize=64)
def _hyperplanes(dimension: int, bits: int, seed: bytes) -> tuple[_Matrix, _Matrix, _Matrix, _Rows]:
    """Signs, shape (sets, width), two Hadamard matrices whose sizes multiply to `width`, a power of two; which rows.

    Where not all rows are needed, some from everywhere: the first half of them would see the sums of two numbers only.
    """
    exponent = max(1, (dimension - 1).bit_length())
    width = 1 << exponent
    sets = max(1, bits // width)
    flips = np.frombuffer(hashlib.shake_256(seed).digest(sets * width // 8 or 1), dtype=np.uint8)
    signs = 1.0 - 2.0 * np.unpackbits(flips)[: sets * width].reshape(sets, width).astype(np.float32)
    rows: _Rows = np.arange(width)
    if bits // sets < width:
        order = np.frombuffer(hashlib.shake_256(seed + b", rows").digest(4 * width), dtype="<u4")
        rows = np.sort(np.argsort(order, kind="stable")[: bits // sets])
    return signs, _hadamard(exponent // 2), _hadamard(exponent - exponent // 2), rows


def _hadamard(exponent: int) -> _Matrix:
    matrix = np.ones((1, 1), dtype=np.float32)
    for _ in range(exponent):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix
