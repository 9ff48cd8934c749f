"""Embeddings of invented people, galleries of them, and a brute-force search in NumPy as the reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from service.embedding import EmbeddingSpace
from service.gallery.bulk_writing import ReferenceRow, add_references
from service.gallery.galleries import Gallery, create_gallery, find_gallery

Matrix = npt.NDArray[np.float32]


def space_of(dimension: int = 512, metric: str = "cosine") -> EmbeddingSpace:
    """Return an embedding space that no encoder has."""
    name = f"invented:{metric}:{dimension}"
    threshold = 0.4 if metric == "cosine" else 0.5
    return EmbeddingSpace(name, name, dimension, metric, threshold)  # type: ignore[arg-type]


def unit(rows: npt.NDArray[np.floating]) -> Matrix:
    """Scale rows to unit length."""
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=-1, keepdims=True), dtype=np.float32)


@dataclass(frozen=True)
class Crowd:
    """Names and embeddings of references, one in each row."""

    names: list[str]
    embeddings: Matrix

    def rows(self) -> list[ReferenceRow]:
        """Return the references as rows for the loader."""
        return [ReferenceRow(name, None, values) for name, values in zip(self.names, self.embeddings, strict=True)]

    def best(self, probe: Matrix, metric: str = "cosine") -> list[tuple[str, float]]:
        """Return every person with the similarity of the best reference, most similar first."""
        similarities = self.similarities(probe, metric)
        people, whose = self._people
        best = np.full(len(people), -2.0)
        np.maximum.at(best, whose, similarities)
        return [(str(people[index]), float(best[index])) for index in np.argsort(-best, kind="stable")]

    def similarities(self, probe: Matrix, metric: str = "cosine") -> npt.NDArray[np.float64]:
        """Return the similarities of all references, not clipped."""
        wide = probe.astype(np.float64)
        if metric == "cosine":
            return np.asarray(self._directions @ (wide / np.linalg.norm(wide)))
        return np.asarray(1.0 - np.linalg.norm(self.embeddings.astype(np.float64) - wide, axis=1))

    @cached_property
    def _directions(self) -> npt.NDArray[np.float64]:
        rows = self.embeddings.astype(np.float64)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    @cached_property
    def _people(self) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.intp]]:
        people, whose = np.unique(self.names, return_inverse=True)
        return people, whose


def crowd_of(people: int, references: int = 5, dimension: int = 512, seed: int = 0, closeness: float = 0.8) -> Crowd:
    """People in random directions, references at a cosine of `closeness` to their person's center, of any length."""
    random = np.random.default_rng(seed)
    centers = np.repeat(unit(random.standard_normal((people, dimension))), references, axis=0)
    noise = unit(random.standard_normal(centers.shape))
    embeddings = closeness * centers + np.sqrt(1 - closeness**2) * noise
    lengths = random.uniform(0.5, 30.0, (len(centers), 1))
    names = [f"person {number // references}" for number in range(len(centers))]
    return Crowd(names, (embeddings * lengths).astype(np.float32))


def differing_crowd(people: int, dimension: int = 512, seed: int = 0) -> Crowd:
    """Return people of 1 to 20 references about one to three centers of their own, which are at a cosine of 0.2."""
    random = np.random.default_rng(seed)
    names, parts = [], []
    for person in range(people):
        base = unit(random.standard_normal(dimension))
        others = unit(random.standard_normal((int(random.integers(1, 4)), dimension)))
        centers = unit(np.sqrt(0.2) * base + np.sqrt(0.8) * others)
        count = int(random.integers(1, 21))
        of = np.concatenate([np.arange(len(centers)), random.choice(len(centers), 20, p=_uneven(len(centers)))])[:count]
        parts.append(0.85 * centers[of] + np.sqrt(1 - 0.85**2) * unit(random.standard_normal((count, dimension))))
        names += [f"person {person}"] * count
    return Crowd(names, np.concatenate(parts).astype(np.float32))


def _uneven(centers: int) -> npt.NDArray[np.float64]:
    weights = np.array([8.0, 2.0, 1.0])[:centers]
    return np.asarray(weights / weights.sum())


def near(embedding: Matrix, cosine: float, seed: int = 0) -> Matrix:
    """Return a probe at that cosine to an embedding, otherwise in a random direction."""
    random = np.random.default_rng(seed)
    direction = unit(embedding).astype(np.float64)
    noise = random.standard_normal(direction.shape)
    noise -= (noise @ direction) * direction
    noise /= np.linalg.norm(noise)
    return np.asarray(17.0 * (cosine * direction + np.sqrt(1 - cosine**2) * noise), dtype=np.float32)


async def gallery_of(
    session: AsyncSession, crowd: Crowd, space: EmbeddingSpace | None = None, name: str = "crowd"
) -> Gallery:
    """Make a gallery with the crowd in it, loaded in batches."""
    gallery = await create_gallery(session, name, space or space_of(crowd.embeddings.shape[1]))
    await load(session, gallery, crowd.rows())
    return await find_gallery(session, name)


async def load(session: AsyncSession, gallery: Gallery, rows: Sequence[ReferenceRow], batch: int = 2000) -> None:
    """Add references in batches."""
    for start in range(0, len(rows), batch):
        await add_references(session, gallery, rows[start : start + batch])
