"""`python -m benchmarks.hamming` measures the Hamming distances of codes, of mates and of strangers, and compares them
with the distance that `gallery.search.distances` derives.

Mates are at exactly the stated cosine to a reference and otherwise in a random direction, which is the hardest case.
Templates are at the lowest cosine to the reference that they can have.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import keep, table
from service.gallery.codes import FACE_BITS, TEMPLATE_BITS, Codes, face_codes, template_codes
from service.gallery.search.distances import LOW_COSINE, CodeGeometry, max_distance, share_of_strangers
from service.gallery.templates import CLOSE

DIMENSIONS = (256, 512)
PAIRS = 1_000_000
AT_ONCE = 20_000
THRESHOLD = 0.4
GALLERY_SIZES = (1_000, 10_000, 100_000, 1_000_000)

Matrix = npt.NDArray[np.float32]


def main() -> None:
    """Measure and print."""
    rows = []
    for dimension in DIMENSIONS:
        for kind, codes in (
            (CodeGeometry(dimension, FACE_BITS), face_codes),
            (CodeGeometry(dimension, TEMPLATE_BITS, CLOSE), template_codes),
        ):
            rows.append(measure(kind, codes))
            print(table(list(rows[-1]), [list(rows[-1].values())]), "\n", flush=True)
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    print(f"kept in {keep('hamming', {'pairs': PAIRS, 'threshold': THRESHOLD, 'rows': rows})}")


def measure(kind: CodeGeometry, codes: Callable[[Matrix], Codes]) -> dict[str, Any]:
    """Measure a million pairs of each kind: their distances, and the share beyond the derived distance."""
    bound = max_distance(kind, THRESHOLD)
    found: dict[str, list[npt.NDArray[np.int64]]] = {"threshold": [], "faint": [], "strangers": []}
    for references, random in _chunks(kind.dimension):
        coded = codes(references if kind.closeness == 1.0 else at_cosine(references, kind.closeness, random))
        found["threshold"].append(_distances(coded, codes(at_cosine(references, THRESHOLD, random))))
        found["faint"].append(_distances(coded, codes(at_cosine(references, LOW_COSINE, random))))
        found["strangers"].append(_distances(coded, codes(_unit(_normal(references.shape, random)))))
    at_threshold, faint, strangers = (np.concatenate(parts) for parts in found.values())
    row = {
        "dimension": kind.dimension,
        "code of": "faces" if kind.closeness == 1.0 else f"templates at {kind.closeness}",
        "bits": kind.bits,
        f"mates at {THRESHOLD}": _spread(at_threshold),
        f"mates at {LOW_COSINE}": _spread(faint),
        "strangers": _spread(strangers),
        "derived distance": bound,
        f"beyond, at {THRESHOLD}": float(np.mean(at_threshold > bound)),
        f"beyond, at {LOW_COSINE}": float(np.mean(faint > bound)),
        "strangers within": float(np.mean(strangers <= bound)),
        "derived": share_of_strangers(kind, bound),
    }
    within = float(np.mean(strangers <= bound))
    return row | {f"compared of {size:,}": round(size * within) for size in GALLERY_SIZES}


def at_cosine(rows: Matrix, cosine: float, random: np.random.Generator) -> Matrix:
    """Return vectors at exactly that cosine to the rows, otherwise in random directions."""
    noise = _normal(rows.shape, random)
    noise -= np.sum(noise * rows, axis=1, keepdims=True) * rows
    return (np.float32(cosine) * rows + np.float32(np.sqrt(1 - cosine**2)) * _unit(noise)).astype(np.float32)


def _chunks(dimension: int) -> Iterator[tuple[Matrix, np.random.Generator]]:
    for seed in range(PAIRS // AT_ONCE):
        random = np.random.default_rng(seed)
        yield _unit(_normal((AT_ONCE, dimension), random)), random


def _normal(shape: tuple[int, ...], random: np.random.Generator) -> Matrix:
    return random.standard_normal(shape, dtype=np.float32)


def _unit(rows: Matrix) -> Matrix:
    unit: Matrix = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _distances(first: Codes, second: Codes) -> npt.NDArray[np.int64]:
    return np.bitwise_count(first ^ second).sum(axis=1, dtype=np.int64)


def _spread(distances: npt.NDArray[np.int64]) -> str:
    return f"{distances.mean():.1f} ± {distances.std():.1f}"


if __name__ == "__main__":
    main()
