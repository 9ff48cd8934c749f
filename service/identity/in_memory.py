"""References in memory, for programs that have a dataset file and need no database."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from service.database.names import canonical_name
from service.embedding import Embedding, EmbeddingSpace, check_embedding
from service.errors import EmbeddingSpaceMismatch, InvalidDataset, InvalidRequest, NotFound
from service.gallery.votes import similarities
from service.identity.datasets.formats import detect_format
from service.identity.datasets.parsing import read_rows
from service.identity.datasets.saved_references import save_rows, stored_space
from service.identity.legacy_vote import count_votes_in_memory, decide_by_votes


@dataclass(frozen=True)
class RejectedPicture:
    """A picture that was not enrolled: the person, its index among the person's pictures (from 0) and the reason.

    `path` is empty if the picture is no file. `reason` is the slug of an error, `detail` a sentence for people.
    """

    name: str
    index: int
    path: str
    reason: str
    detail: str


@dataclass(frozen=True, repr=False, eq=False)
class References:
    """Names, and in the same order embeddings of one space, shape (references, dimension).

    `first + second` has the references of both. `rejected` lists the pictures that an enrollment could not use.
    """

    space: EmbeddingSpace
    names: list[str]
    embeddings: npt.NDArray[np.float64]
    rejected: tuple[RejectedPicture, ...] = ()

    @classmethod
    def of(cls, space: EmbeddingSpace, named: Sequence[tuple[str, Embedding]]) -> "References":
        """Make it from pairs of name and embedding. Raises InvalidEmbedding if one does not fit the space."""
        rows = [check_embedding(embedding, space) for _, embedding in named]
        matrix = np.array(rows, dtype=np.float64).reshape(len(rows), space.dimension)
        return cls(space, [canonical_name(name) for name, _ in named], matrix)

    @classmethod
    def load(cls, path: str | os.PathLike[str], space: EmbeddingSpace | None = None) -> "References":
        """Read a file of `save`. With `space` any dataset file is read, as by `Recognizer.read_references`.

        Raises NotFound, InvalidDataset, which names the row, or EmbeddingSpaceMismatch if the file is of another space.
        """
        file = Path(path)
        known = space or stored_space(file)
        if known is None:
            raise InvalidRequest(f"{file} does not say which encoder made it: give the embedding space")
        return read_references(file, known)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the references as a dataset file, one JSON object per line, which `face-identity import` reads too.

        Every number is exact. The `source` of each line describes the embedding space. The file holds biometric data.
        """
        save_rows(Path(path), self.space, zip(self.names, self.embeddings, strict=True))

    def without(self, name: str) -> "References":
        """The references of everybody else. Raises NotFound if there is nobody of that name."""
        kept = [place for place, other in enumerate(self.names) if other != name]
        if len(kept) == len(self.names):
            raise NotFound(f"there is no reference of {name!r}")
        return References(self.space, [self.names[place] for place in kept], self.embeddings[kept], self.rejected)

    def of_person(self, name: str) -> "References":
        """The references of one person. Raises NotFound if there is nobody of that name."""
        places = [place for place, other in enumerate(self.names) if other == name]
        if not places:
            raise NotFound(f"there is no reference of {name!r}")
        return References(self.space, [name] * len(places), self.embeddings[places])

    def __add__(self, other: "References") -> "References":
        self.check_space(other.space)
        embeddings = np.concatenate([self.embeddings, other.embeddings])
        return References(self.space, self.names + other.names, embeddings, self.rejected + other.rejected)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        """Numbers only: neither embeddings nor names belong into logs."""
        rejected = f", {len(self.rejected)} pictures rejected" if self.rejected else ""
        return f"<References: {len(self)} of {len(set(self.names))} people, {self.space.name}{rejected}>"

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
    stored = stored_space(path)
    if stored is not None and stored.digest != space.digest:
        raise EmbeddingSpaceMismatch(f"{path} was made with {stored.name}, not with {space.name}")
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
