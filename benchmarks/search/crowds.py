"""Invented people of three kinds: isotropic (hard for approximate indexes), of low intrinsic dimension (easy for them),
and in several clusters (age, beard, glasses). Probes have a stated cosine to one of a person's references.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Kind = Literal["isotropic", "low", "clusters"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COSINES = (0.6, 0.45, 0.35)
CLOSENESS = 0.8
"""Cosine of a reference to its person's center (or cluster's): two references of a person are at about 0.64."""
INTRINSIC_DIMENSION = 64
CLUSTER_COSINE = 0.2

Matrix = npt.NDArray[np.float32]
Noise = Callable[[int], Matrix]


@dataclass(frozen=True)
class Crowd:
    """References of unit length, one in each row, and their persons; the references of a person are consecutive."""

    kind: Kind
    embeddings: Matrix
    people: npt.NDArray[np.int32]

    @property
    def size(self) -> int:
        """The number of references."""
        return len(self.people)


@dataclass(frozen=True)
class Probes:
    """Probes of unit length; `mates` has the person of each, -1 for a stranger, `cosines` the cosine to a reference."""

    embeddings: Matrix
    mates: npt.NDArray[np.int32]
    cosines: npt.NDArray[np.float32]


def make_crowd(kind: Kind, people: int, references: int, dimension: int, seed: int = 0) -> Crowd:
    """Make people with `references` references each. With clusters, the last third has another center."""
    random = np.random.default_rng(seed)
    noise = _noise(kind, dimension, random)
    centers = noise(people)
    embeddings = np.empty((people * references, dimension), dtype=np.float32)
    for reference in range(references):
        about = centers
        if kind == "clusters" and reference >= max(1, references - references // 3):
            about = _mix(centers, CLUSTER_COSINE, noise(people))
        embeddings[reference::references] = _mix(about, CLOSENESS, noise(people))
    return Crowd(kind, embeddings, np.repeat(np.arange(people, dtype=np.int32), references))


def make_probes(crowd: Crowd, count: int, seed: int = 1) -> Probes:
    """Make `count` probes at each of COSINES to a random reference, and as many strangers, shuffled."""
    random = np.random.default_rng(seed)
    noise = _noise(crowd.kind, crowd.embeddings.shape[1], random)
    embeddings, mates, cosines = [], [], []
    for cosine in COSINES:
        picked = random.choice(crowd.size, count)
        embeddings.append(_mix(crowd.embeddings[picked], cosine, noise(count)))
        mates.append(crowd.people[picked])
        cosines.append(np.full(count, cosine, dtype=np.float32))
    embeddings.append(noise(count))
    mates.append(np.full(count, -1, dtype=np.int32))
    cosines.append(np.zeros(count, dtype=np.float32))
    order = random.permutation(len(COSINES) * count + count)
    return Probes(np.concatenate(embeddings)[order], np.concatenate(mates)[order], np.concatenate(cosines)[order])


def _noise(kind: Kind, dimension: int, random: np.random.Generator) -> Noise:
    """Return evenly spread directions: over the whole space, or over a subspace that is the same for every seed."""
    if kind != "low":
        return lambda count: _unit(random.standard_normal((count, dimension), dtype=np.float32))
    basis = np.linalg.qr(np.random.default_rng(42).standard_normal((dimension, INTRINSIC_DIMENSION)))[0].T
    return lambda count: _unit(
        random.standard_normal((count, INTRINSIC_DIMENSION), dtype=np.float32) @ basis.astype(np.float32)
    )


def _mix(about: Matrix, cosine: float, noise: Matrix) -> Matrix:
    """Return vectors at exactly that cosine to the rows of `about`."""
    across = noise - np.sum(noise * about, axis=1, keepdims=True) * about
    return (np.float32(cosine) * about + np.float32(np.sqrt(1 - cosine**2)) * _unit(across)).astype(np.float32)


def _unit(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = rows / lengths
    return unit


def exact_best(crowd: Crowd, probes: Probes) -> tuple[npt.NDArray[np.int32], Matrix]:
    """Return for each probe the person of the nearest reference and its cosine, by comparing everything."""
    best = np.full(len(probes.mates), -2.0, dtype=np.float32)
    people = np.full(len(probes.mates), -1, dtype=np.int32)
    for start in range(0, crowd.size, 100_000):
        cosines = probes.embeddings @ crowd.embeddings[start : start + 100_000].T
        nearest = cosines.argmax(axis=1)
        found = np.take_along_axis(cosines, nearest[:, np.newaxis], axis=1)[:, 0]
        people = np.where(found > best, crowd.people[start + nearest], people)
        best = np.maximum(found, best)
    return people, best
