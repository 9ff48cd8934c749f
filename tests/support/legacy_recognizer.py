"""Parsing and matching of the legacy recognizer, rewritten from its description, for tests and benchmarks.

`parse` and `match` work like that program: rows are read one by one into a matrix that grows, then all cosines are
computed at once, then one pass over the rows counts for each label.
"""

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

NOBODY = "Uknown"
Matrix = npt.NDArray[np.float64]


def parse(content: bytes) -> tuple[list[str], Matrix]:
    """Return labels and embeddings of a dataset of shape 1; the matrix is copied for every row, as the program did."""
    labels: list[str] = []
    matrix: Matrix | None = None
    for label, text in json.loads(content):
        row = np.array([float(number) for number in text.split(",")])[None, :]
        matrix = row if matrix is None else np.vstack([matrix, row])
        labels.append(str(label))
    return labels, np.zeros((0, 0)) if matrix is None else matrix


def parse_kindly(content: bytes) -> tuple[list[str], Matrix]:
    """Do the same without the copies: the program with one line changed."""
    rows = json.loads(content)
    return [str(row[0]) for row in rows], np.array([[float(number) for number in row[1].split(",")] for row in rows])


def match(labels: Sequence[str], references: Matrix, probe: npt.NDArray[np.floating], above: float = 0.3) -> str:
    """Return the label with the most cosines above the threshold, the first of equals; `Uknown` if there is none."""
    probe = np.asarray(probe, dtype=np.float64)
    cosines = references @ probe / (np.linalg.norm(references, axis=1) * np.linalg.norm(probe))
    above_threshold = cosines > above
    names = np.asarray(labels)
    best, most = NOBODY, 0
    for label in dict.fromkeys(labels):
        votes = int(np.sum(above_threshold[names == label]))
        if votes > most:
            best, most = label, votes
    return best


def write(labels: Sequence[str], references: npt.NDArray[np.floating]) -> bytes:
    """Return a dataset of shape 1 as gnosis_main_service writes it: the numbers in JavaScript's format."""
    rows = [
        [label, ",".join(repr(float(number)) for number in row)] for label, row in zip(labels, references, strict=True)
    ]
    return json.dumps(rows).encode()
