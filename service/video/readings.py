"""The identity of a track: the embeddings that were read from its faces, and the person that they decide for.

A track is read a few times, not once a frame. The embeddings are averaged, weighted by quality and size, and the mean
is searched, because the mean of several faces of a person is nearer to the person's references than most of the faces
are. So a blurred or turned face adds little, and the decision may improve. A name that is decided stays: it is replaced
only if the mean comes to match another person clearly better, and never by "unknown".
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from service.embedding import Embedding, EmbeddingSpace, normalized, similarity_from
from service.encoder.contract import DetectedFace

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_NAMED_PAUSES: Final = 4
"""A track with a name is read as seldom as a track without a name after this many readings."""
_BETTER_FACE: Final = 1.5
"""A face this many times better than the best one so far is read before its time."""
_CLEARLY_BETTER: Final = 0.05
"""Similarity by which another person must be nearer to take the place of the decided one."""
_LEAST_WEIGHT: Final = 0.05
_FULL_SIDE: Final = 112
"""Pixels of a face from which its size no longer matters: the side of a crop."""
_STRANGER: Final = 0.5
"""Share of the threshold: a good face that is less similar to the mean of its track may be another person's."""
_GOOD: Final = 0.3


@dataclass(frozen=True)
class Identity:
    """A person of the gallery, and the similarity of the track to the person's references, 0 to 1."""

    person_id: str | None
    name: str
    similarity: float


@dataclass
class Readings:
    """What was read of one track so far."""

    count: int = 0
    identity: Identity | None = None
    best_similarity: float = 0.0
    """The highest similarity to the person of `identity`, and when and in which frame it was read."""
    best_seconds: float = 0.0
    best_frame: int = 0
    _total: npt.NDArray[np.float64] | None = None
    _weight: float = 0.0
    _best_weight: float = 0.0
    _last_seconds: float = 0.0

    def is_due(self, face: DetectedFace, seconds: float) -> bool:
        """Whether the face should be read now: the first one, after a pause that grows, and earlier if it is better."""
        elapsed = seconds - self._last_seconds
        if self.count == 0:
            return True
        if elapsed + 1e-6 >= self._pause():
            return True
        return elapsed + 1e-6 >= _FIRST_PAUSE_SECONDS and weight_of(face) > _BETTER_FACE * self._best_weight

    def skip(self, seconds: float) -> None:
        """Count a face that is too bad to be read, so that the next try waits."""
        self.count += 1
        self._last_seconds = seconds

    def add(self, embedding: Embedding, face: DetectedFace, space: EmbeddingSpace, seconds: float) -> None:
        """Add the embedding of a face."""
        weight = weight_of(face)
        vector = weight * _comparable(embedding, space)
        self._total = vector if self._total is None else self._total + vector
        self._weight += weight
        self._best_weight = max(self._best_weight, weight)
        self.count += 1
        self._last_seconds = seconds

    def join(self, earlier: "Readings") -> None:
        """Continue the readings of an earlier track of the same person."""
        if earlier._total is not None:
            self._total = earlier._total if self._total is None else self._total + earlier._total
        self._weight += earlier._weight
        self._best_weight = max(self._best_weight, earlier._best_weight)
        if earlier.identity is not None:
            self.identity, self.best_similarity = earlier.identity, earlier.best_similarity
            self.best_seconds, self.best_frame = earlier.best_seconds, earlier.best_frame

    @property
    def mean(self) -> Embedding | None:
        """The weighted mean of the embeddings, None before the first one."""
        return None if self._total is None else (self._total / self._weight).astype(np.float32)

    def similarity_to(self, embedding: Embedding, space: EmbeddingSpace) -> float | None:
        """Similarity, 0 to 1, of an embedding to the mean; None before the first reading."""
        mean = self.mean
        if mean is None:
            return None
        one, other = _comparable(embedding, space), _comparable(mean, space)
        measured = float(np.dot(one, other)) if space.metric == "cosine" else float(np.linalg.norm(one - other))
        return similarity_from(space.metric, measured)

    def is_stranger(self, embedding: Embedding, face: DetectedFace, space: EmbeddingSpace) -> bool:
        """Whether the face may be of another person than the track. A bad face is unlike anybody and says nothing.

        One such reading proves nothing: a hand before the mouth or a quick move has the same effect.
        """
        near = self.similarity_to(embedding, space)
        return near is not None and face.quality >= _GOOD and near < _STRANGER * space.threshold

    def decide(self, match: Identity | None, seconds: float, frame: int) -> None:
        """Take the result of a search for the mean."""
        if match is None:
            return
        held = self.identity
        if held is not None and held.name != match.name and match.similarity < held.similarity + _CLEARLY_BETTER:
            return
        if held is None or held.name != match.name or match.similarity >= self.best_similarity:
            self.best_similarity, self.best_seconds, self.best_frame = match.similarity, seconds, frame
        self.identity = match

    def _pause(self) -> float:
        steps = self.count + (_NAMED_PAUSES if self.identity is not None else 0) - 1
        return min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(steps, 16))


def weight_of(face: DetectedFace) -> float:
    """How much a face says about its person: quality times size, above 0."""
    size = min(1.0, max(0.0, min(face.box.width, face.box.height)) / _FULL_SIDE)
    return max(_LEAST_WEIGHT, face.quality) * max(_LEAST_WEIGHT, size)


def _comparable(embedding: Embedding, space: EmbeddingSpace) -> npt.NDArray[np.float64]:
    return (normalized(embedding) if space.metric == "cosine" else embedding).astype(np.float64)
