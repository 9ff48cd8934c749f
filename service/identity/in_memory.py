"""References in memory, for programs that have a dataset file and need no database."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from service.embedding import Embedding, EmbeddingSpace, check_embedding
from service.errors import EmbeddingSpaceMismatch, InvalidDataset, NotFound
from service.gallery.votes import similarities
from service.identity.datasets.formats import detect_format
from service.identity.datasets.parsing import read_rows
from service.identity.legacy_vote import count_votes_in_memory, decide_by_votes


@dataclass(frozen=True)
class References:
    """Names, and in the same order embeddings of one space, shape (references, dimension)."""

    space: EmbeddingSpace
    names: list[str]
    embeddings: npt.NDArray[np.float64]

    @classmethod
    def of(cls, space: EmbeddingSpace, named: Sequence[tuple[str, Embedding]]) -> "References":
        """Make it from pairs of name and embedding. Raises InvalidEmbedding if one does not fit the space."""
        rows = [check_embedding(embedding, space) for _, embedding in named]
        matrix = np.array(rows, dtype=np.float64).reshape(len(rows), space.dimension)
        return cls(space, [name for name, _ in named], matrix)

    def nearest(self, probes: Sequence[Embedding]) -> list[tuple[str, float]]:
        """For each probe the name of the most similar reference, and its similarity from 0 to 1."""
        if not self.names or not probes:
            return [("", 0.0) for _ in probes]
        measured = similarities(self.embeddings, np.stack(probes), self.space).clip(0.0, 1.0)
        return [(self.names[place], float(measured[row, place])) for row, place in enumerate(measured.argmax(axis=1))]

    def vote(self, probes: Sequence[Embedding]) -> list[str | None]:
        """For each probe the name that the policy `legacy-vote` decides for, or None."""
        if not probes:
            return []
        votes = count_votes_in_memory(self.names, self.embeddings, np.stack(probes).astype(np.float64), self.space)
        decided = [decide_by_votes(one) for one in votes]
        return [None if best is None else best.name for best in decided]

    def check_space(self, space: EmbeddingSpace) -> None:
        """Raises EmbeddingSpaceMismatch if probes of `space` cannot be compared with these references."""
        if space.digest != self.space.digest:
            raise EmbeddingSpaceMismatch(f"the references are of {self.space.name}, the probe of {space.name}")


def read_references(path: Path, space: EmbeddingSpace) -> References:
    """A dataset file of any shape; a bare list of numbers is one embedding, named as its file."""
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    if (alone := _bare_list(path)) is not None:
        return References.of(space, [(path.stem, check_embedding(alone, space))])
    with path.open("rb") as opened:
        rows = list(read_rows(opened, detect_format(opened), space))
    if not rows:
        raise InvalidDataset(f"{path} holds nobody")
    return References(space, [row.name for row in rows], np.array([row.values for row in rows], dtype=np.float64))


def _bare_list(path: Path) -> list[float] | None:
    """What the legacy recognizer's `/encoder/image` answers."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[float])
    except msgspec.MsgspecError:
        return None
