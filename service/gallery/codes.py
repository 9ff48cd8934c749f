"""Binary codes of embeddings: each bit tells on which side of a random hyperplane the embedding lies.

The Hamming distance of two codes estimates the angle between the embeddings. The hyperplanes come in orthogonal sets
(random signs, then a Hadamard matrix), whose distance has a fourth less spread than that of independent hyperplanes.
They never change, because the codes are stored. Codes work only for embeddings that are centered on zero, so the
embedding space decides whether it has them.
"""

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from service.embedding import EmbeddingSpace

MINIMUM_DIMENSION = 256
FACE_BITS = 512
"""512 bits fit beside a halfvec of 512 dimensions: seven faces share a page of 8 KiB, as without the code."""
TEMPLATE_BITS = 1024
"""Templates are few. Twice the bits pass a tenth of the people to the rerank."""

# Faces and templates have hyperplanes of their own. With the same hyperplanes, two fifths of the faces of a person
# whose template is near by chance are near, too; with different ones, one fifth. Each such face is a row fetched in
# vain.
_OF_FACES = b"face identity service: hyperplanes of faces"
_OF_TEMPLATES = b"face identity service: hyperplanes"

Codes = npt.NDArray[np.uint8]
"""Packed bits, shape (count, bits / 8)."""
_Matrix = npt.NDArray[np.float32]
_Rows = npt.NDArray[np.intp]


def has_codes(space: EmbeddingSpace) -> bool:
    """Whether the space has codes. Searches in a space without codes read the vectors from a covering index."""
    return space.metric == "cosine" and space.dimension >= MINIMUM_DIMENSION


def face_codes(embeddings: _Matrix) -> Codes:
    """One code per embedding, from shape (count, dimension)."""
    return _codes(embeddings, FACE_BITS, _OF_FACES)


def template_codes(embeddings: _Matrix) -> Codes:
    """One code per template, or per probe that is compared with templates, from shape (count, dimension)."""
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
    # A Hadamard matrix is the Kronecker product of two smaller ones, so two small products replace a large one.
    sides = (left @ flipped @ right).reshape(count, sets, width)[:, :, rows] > 0
    return np.packbits(sides.reshape(count, bits), axis=1)


@lru_cache(maxsize=64)
def _hyperplanes(dimension: int, bits: int, seed: bytes) -> tuple[_Matrix, _Matrix, _Matrix, _Rows]:
    """Signs, shape (sets, width); two Hadamard matrices whose sizes multiply to `width`, a power of two; selected rows.

    If fewer than all rows are needed, they are drawn from the whole matrix. The first half of a Hadamard matrix would
    see only sums of two neighboring numbers.
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
