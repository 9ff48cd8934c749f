"""Writes references of a program as NDJSON that names their embedding space, and reads that space back.

The format of datasets has no place for a space. The `source` of a line is free, so it holds the space. Without it,
embeddings of two encoders of the same dimension could be compared by mistake.
"""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from service.embedding import EmbeddingSpace
from service.errors import NotFound
from service.identity.datasets.json_values import MAXIMUM_PIECE_BYTES

_json = msgspec.json.Encoder()


class _Source(msgspec.Struct):
    embedding_space: EmbeddingSpace


class _Row(msgspec.Struct):
    source: _Source


_row = msgspec.json.Decoder(_Row)


def save_rows(path: Path, space: EmbeddingSpace, references: Iterable[tuple[str, npt.NDArray[np.float64]]]) -> None:
    """Write one line for each name and embedding of shape (dimension,). The file is complete or unchanged.

    Only the user may read a new file, because it holds biometric data.
    """
    source = {"embedding_space": asdict(space)}
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            for name, embedding in references:
                file.write(_json.encode({"person": name, "source": source, "embedding": embedding.tolist()}) + b"\n")
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise


def stored_space(path: Path) -> EmbeddingSpace | None:
    """The space that the first line names; None if the file was not written by `save_rows`. Raises NotFound."""
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    with path.open("rb") as file:
        line = file.readline(MAXIMUM_PIECE_BYTES)
    try:
        return _row.decode(line).source.embedding_space
    except msgspec.MsgspecError:
        return None
