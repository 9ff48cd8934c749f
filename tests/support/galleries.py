"""Embeddings of invented people, galleries of them, and the search that nobody doubts: all of it, in NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from service.embedding import EmbeddingSpace
from service.gallery.galleries import Gallery, create_gallery, find_gallery
from service.gallery.loading import ReferenceRow, add_references

Matrix = npt.NDArray[np.float32]


def space_of(dimension: int = 512, metric: str = "cosine") -> EmbeddingSpace:
    """An embedding space that no encoder has."""
    name = f"invented:{metric}:{dimension}"
    threshold = 0.4 if metric == "cosine" else 0.5
    return EmbeddingSpace(name, name, dimension, metric, threshold)  # type: ignore[arg-type]


def unit(rows: npt.NDArray[np.floating]) -> Matrix:
    """Rows at unit length."""
    wide = rows.astype(np.float64)
    return (wide / np.linalg.norm(wide, axis=-1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Crowd:
    """Names and embeddings of references, one a row."""

    names: list[str]
    embeddings: Matrix

    def rows(self) -> list[ReferenceRow]:
        """As they are loaded."""
        return [ReferenceRow(name, None, values) for name, values in zip(self.names, self.embeddings, strict=True)]

    def best(self, probe: Matrix, metric: str = "cosine") -> list[tuple[str, float]]:
        """Every person with the similarity of the best reference, most similar first."""
        wide, rows = probe.astype(np.float64), self.embeddings.astype(np.float64)
        if metric == "cosine":
            found = (rows @ wide) / np.linalg.norm(rows, axis=1) / np.linalg.norm(wide)
        else:
            found = 1.0 - np.linalg.norm(rows - wide, axis=1)
        best: dict[str, float] = {}
        for name, similarity in zip(self.names, found, strict=True):
            best[name] = max(best.get(name, -2.0), float(similarity))
        return sorted(best.items(), key=lambda pair: -pair[1])


def crowd_of(people: int, references: int = 5, dimension: int = 512, seed: int = 0, closeness: float = 0.8) -> Crowd:
    """People in random directions, references at a cosine of `closeness` to their person's center, of any length."""
    random = np.random.default_rng(seed)
    centers = np.repeat(unit(random.standard_normal((people, dimension))), references, axis=0)
    noise = unit(random.standard_normal(centers.shape))
    embeddings = closeness * centers + np.sqrt(1 - closeness**2) * noise
    lengths = random.uniform(0.5, 30.0, (len(centers), 1))
    names = [f"person {number // references}" for number in range(len(centers))]
    return Crowd(names, (embeddings * lengths).astype(np.float32))


async def gallery_of(
    session: AsyncSession, crowd: Crowd, space: EmbeddingSpace | None = None, name: str = "crowd"
) -> Gallery:
    """A gallery with the crowd in it, loaded in batches."""
    gallery = await create_gallery(session, name, space or space_of(crowd.embeddings.shape[1]))
    await load(session, gallery, crowd.rows())
    return await find_gallery(session, name)


async def load(session: AsyncSession, gallery: Gallery, rows: Sequence[ReferenceRow], batch: int = 2000) -> None:
    """Add references in batches."""
    for start in range(0, len(rows), batch):
        await add_references(session, gallery, rows[start : start + batch])
