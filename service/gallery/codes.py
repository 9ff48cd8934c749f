"""Sign bits of embeddings: two embeddings' Hamming distance tells nearly how far apart they are.

That holds for embeddings centered on zero with bits enough; the embedding space decides.
"""

import numpy as np
import numpy.typing as npt

from service.embedding import EmbeddingSpace

MINIMUM_DIMENSION = 256

Codes = npt.NDArray[np.uint8]
"""Packed bits, shape (count, bytes)."""


def has_codes(space: EmbeddingSpace) -> bool:
    """Whether sign bits carry enough in this space; else the search reads the vectors themselves."""
    return space.metric == "cosine" and space.dimension >= MINIMUM_DIMENSION


def codes_of(embeddings: npt.NDArray[np.float32]) -> Codes:
    """One code an embedding, from shape (count, dimension)."""
    return np.packbits(embeddings > 0, axis=1)
