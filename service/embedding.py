"""Embeddings and the spaces they live in: what every room above needs to know of them, and nothing else.

An embedding space is detector + alignment + recognition model + preprocessing. Its digest identifies it;
embeddings of two spaces are never compared.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from service.errors import InvalidEmbedding, InvalidRequest

Embedding = npt.NDArray[np.float32]
"""One face's vector as the network gives it (not normalized), shape (dimension,)."""

Metric = Literal["cosine", "euclidean"]

MAXIMUM_DIMENSION = 4000
"""What pgvector's halfvec takes in an ordinary row of 8 KiB, inline."""

EXTERNAL_THRESHOLD = 0.4
"""Cosine similarity asked of embeddings made elsewhere, where the gallery says nothing else."""

_LARGEST_HALF = 65504.0  # the largest finite number of halfvec's components
_EXTERNAL = re.compile(r"external:([^:]{1,100}):([0-9]{1,5})")


@dataclass(frozen=True)
class EmbeddingSpace:
    """What the numbers mean: `name` as in ENCODER, `digest` of models and preprocessing.

    `threshold` is the documented default similarity (0..1) from which two faces count as the same person.
    Similarity is `cosine` clipped to 0..1, or `1 - distance` clipped to 0..1 where the metric is euclidean.
    """

    name: str
    digest: str
    dimension: int
    metric: Metric
    threshold: float

    @property
    def is_external(self) -> bool:
        """True for embeddings made elsewhere: such a gallery takes no pictures."""
        return self.name.startswith("external:")


def external_space(name: str) -> EmbeddingSpace | None:
    """The space behind `external:LABEL:DIMENSION`, None for another kind of name, InvalidRequest for a wrong one."""
    if not name.startswith("external:"):
        return None
    found = _EXTERNAL.fullmatch(name)
    if found is None or not 1 <= int(found.group(2)) <= MAXIMUM_DIMENSION:
        raise InvalidRequest(f"write external:LABEL:DIMENSION with a dimension of 1 to {MAXIMUM_DIMENSION}")
    digest = hashlib.sha256(name.encode()).hexdigest()
    return EmbeddingSpace(name, digest, int(found.group(2)), "cosine", EXTERNAL_THRESHOLD)


def check_embedding(values: Sequence[float] | npt.NDArray[np.floating], space: EmbeddingSpace) -> Embedding:
    """The values as float32, shape (dimension,); InvalidEmbedding where they cannot be compared in `space`.

    The detail names what is wrong and never holds the values.
    """
    embedding = _as_vector(values)
    if embedding.shape != (space.dimension,):
        raise InvalidEmbedding(f"{embedding.size} numbers where {space.name} has {space.dimension}")
    finite = np.isfinite(embedding)
    if not finite.all():
        raise InvalidEmbedding(f"number {int(np.argmin(finite))} (counted from 0) is not finite")
    if not embedding.any():
        raise InvalidEmbedding("all numbers are zero")
    if space.metric == "euclidean" and np.abs(embedding).max() > _LARGEST_HALF:
        raise InvalidEmbedding(f"a number is greater than {_LARGEST_HALF:.0f}")
    return embedding


def normalized(embedding: Embedding) -> Embedding:
    """The embedding at unit length (float32); its norm is taken in float64, so no finite length overflows."""
    wide = embedding.astype(np.float64)
    wide /= np.abs(wide).max()
    return (wide / np.linalg.norm(wide)).astype(np.float32)


def similarity_from(metric: Metric, measured: float) -> float:
    """Similarity 0..1 from what the metric measures: a cosine, or a Euclidean distance."""
    return min(1.0, max(0.0, measured if metric == "cosine" else 1.0 - measured))


def _as_vector(values: Sequence[float] | npt.NDArray[np.floating]) -> Embedding:
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float64).astype(np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InvalidEmbedding("an embedding is a list of numbers") from None
