"""Embeddings and embedding spaces: what every room above needs to know of them.

An embedding space is detector + alignment + recognition model + preprocessing. Its digest identifies it. Embeddings of
two spaces are never compared.
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
"""The vector of one face as the network returns it (not normalized), shape (dimension,)."""

Metric = Literal["cosine", "euclidean"]

MAXIMUM_DIMENSION = 4000
"""A halfvec of this dimension still fits a row of 8 KiB without TOAST."""

EXTERNAL_THRESHOLD = 0.4
"""Default threshold (cosine) of spaces made elsewhere, if the gallery sets none."""

_LEGACY_DIMENSION = 512
_LARGEST_HALF = 65504.0  # largest finite number of a halfvec component
_EXTERNAL = re.compile(r"external:([^:]{1,100}):([0-9]{1,5})")


@dataclass(frozen=True)
class EmbeddingSpace:
    """Meaning of the numbers: `name` is a value of ENCODER, `digest` identifies models and preprocessing.

    `threshold` is the documented default: the similarity (0 to 1) from which two faces count as one person. Similarity
    is the cosine clipped to 0..1, or 1 - distance clipped to 0..1 if the metric is Euclidean.
    """

    name: str
    digest: str
    dimension: int
    metric: Metric
    threshold: float

    @property
    def is_external(self) -> bool:
        """True for embeddings made elsewhere. A gallery of such a space accepts no images."""
        return self.name.startswith("external:")


def external_space(name: str) -> EmbeddingSpace | None:
    """The space named `external:LABEL:DIMENSION`, or None for another kind of name. Raises InvalidRequest for a wrong
    one.
    """
    if not name.startswith("external:"):
        return None
    found = _EXTERNAL.fullmatch(name)
    if found is None or not name.isprintable() or not 1 <= int(found.group(2)) <= MAXIMUM_DIMENSION:
        raise InvalidRequest(f"write external:LABEL:DIMENSION with a dimension of 1 to {MAXIMUM_DIMENSION}")
    digest = hashlib.sha256(name.encode()).hexdigest()
    return EmbeddingSpace(name, digest, int(found.group(2)), "cosine", EXTERNAL_THRESHOLD)


def check_embedding(values: Sequence[float] | npt.NDArray[np.floating], space: EmbeddingSpace) -> Embedding:
    """The values as float32, shape (dimension,). Raises InvalidEmbedding if they cannot be compared in `space`.

    The detail names the fault and never contains the values.
    """
    embedding = _as_vector(values)
    if embedding.shape != (space.dimension,):
        raise InvalidEmbedding(f"{embedding.size} numbers, but {space.name} has {space.dimension}{_hint(embedding)}")
    finite = np.isfinite(embedding)
    if not finite.all():
        raise InvalidEmbedding(f"number {int(np.argmin(finite))} (counted from 0) is not finite")
    if not embedding.any():
        raise InvalidEmbedding("all numbers are zero")
    if space.metric == "euclidean" and np.abs(embedding).max() > _LARGEST_HALF:
        raise InvalidEmbedding(f"a number is greater than {_LARGEST_HALF:.0f}")
    return embedding


def normalized(embedding: Embedding) -> Embedding:
    """The embedding at unit length (float32). The norm is computed in float64, so that no finite length overflows."""
    wide = embedding.astype(np.float64)
    wide /= np.abs(wide).max()
    return (wide / np.linalg.norm(wide)).astype(np.float32)


def similarity_from(metric: Metric, measured: float) -> float:
    """Similarity from 0 to 1, from a cosine or from a Euclidean distance."""
    return min(1.0, max(0.0, measured if metric == "cosine" else 1.0 - measured))


def shown_similarity(similarity: float) -> float:
    """A similarity as every answer shows it: rounded to a millionth, which float32 still holds."""
    return round(float(similarity), 6)


def _hint(embedding: Embedding) -> str:
    """The next step for embeddings of the legacy recognizer, which most likely have the wrong dimension."""
    if embedding.size != _LEGACY_DIMENSION:
        return ""
    return (
        f". Embeddings of the legacy recognizer have {_LEGACY_DIMENSION} numbers and need its own models: convert them "
        "with `face-identity models convert FOLDER`, and set ENCODER (LEGACY_ENCODER for the legacy API and programs) "
        "to legacy-padded-crop:FOLDER"
    )


def _as_vector(values: Sequence[float] | npt.NDArray[np.floating]) -> Embedding:
    try:
        with np.errstate(over="ignore"):
            return np.asarray(values, dtype=np.float64).astype(np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InvalidEmbedding("an embedding must be a list of numbers") from None
