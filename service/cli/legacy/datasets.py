"""A dataset file as the legacy programs used it: labels and a matrix in memory, no database."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from service.embedding import EmbeddingSpace, check_embedding
from service.errors import InvalidDataset, NotFound
from service.identity.datasets.reading import read_rows
from service.identity.datasets.shapes import recognize_shape


@dataclass(frozen=True)
class Dataset:
    """Labels and, in the same order, embeddings of shape (rows, dimension)."""

    labels: list[str]
    embeddings: npt.NDArray[np.float64]


def read_dataset(path: str, space: EmbeddingSpace) -> Dataset:
    """The file's rows, of any shape; a bare list of numbers is one embedding, named as its file."""
    file = Path(path)
    if not file.is_file():
        raise NotFound(f"there is no file {path}")
    if (alone := _bare_list(file)) is not None:
        return Dataset([file.stem], check_embedding(alone, space)[np.newaxis].astype(np.float64))
    with file.open("rb") as opened:
        rows = list(read_rows(opened, recognize_shape(opened), space))
    if not rows:
        raise InvalidDataset(f"{path} holds nobody")
    return Dataset([row.name for row in rows], np.array([row.values for row in rows], dtype=np.float64))


def _bare_list(file: Path) -> list[float] | None:
    """What `/encoder/image` answers."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[float])
    except msgspec.MsgspecError:
        return None
