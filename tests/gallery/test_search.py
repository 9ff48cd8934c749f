"""Search against brute force in NumPy, on every path, through the service role under row-level security."""

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.errors import InvalidEmbedding, InvalidRequest
from service.gallery.galleries import create_gallery
from service.gallery.search import search
from tests.support.galleries import Crowd, Matrix, crowd_of, gallery_of, space_of, unit

EXACTLY = {"abs": 2e-3}  # halfvec keeps about three decimal digits of a component


def near(embedding: Matrix, cosine: float, seed: int = 0) -> Matrix:
    """A probe at that cosine to an embedding."""
    random = np.random.default_rng(seed)
    direction = unit(embedding).astype(np.float64)
    noise = random.standard_normal(direction.shape)
    noise -= (noise @ direction) * direction
    noise /= np.linalg.norm(noise)
    return (17.0 * (cosine * direction + np.sqrt(1 - cosine**2) * noise)).astype(np.float32)


@pytest.mark.parametrize(
    ("people", "references", "dimension", "metric"),
    [
        (100, 5, 512, "cosine"),
        (700, 5, 512, "cosine"),
        (3000, 1, 512, "cosine"),
        (300, 5, 128, "cosine"),
        (300, 5, 128, "euclidean"),
        (20, 3, 7, "cosine"),
    ],
)
async def test_the_candidates_are_those_of_brute_force(
    session: AsyncSession, people: int, references: int, dimension: int, metric: str
) -> None:
    crowd = crowd_of(people, references, dimension)
    if metric == "euclidean":  # as dlib's: all about one place away from zero
        crowd = Crowd(crowd.names, (unit(crowd.embeddings) * 0.3 + 0.1).astype(np.float32))
    gallery = await gallery_of(session, crowd, space_of(dimension, metric))
    picked = np.random.default_rng(1).choice(len(crowd.names), 20)
    probes = [near(crowd.embeddings[place], 0.6, int(place)) for place in picked]
    if metric == "euclidean":
        probes = [crowd.embeddings[place] + np.float32(0.01) for place in picked]
    for probe, candidates in zip(probes, await search(session, gallery, probes, limit=3), strict=True):
        expected = crowd.best(probe, metric)[: 1 if people > 1000 or references * people > 1500 else 3]
        found = [(candidate.name, candidate.similarity) for candidate in candidates[: len(expected)]]
        assert [name for name, _ in found] == [name for name, _ in expected]
        assert [similarity for _, similarity in found] == pytest.approx(
            [max(0.0, similarity) for _, similarity in expected], **EXACTLY
        )


async def test_a_probe_of_the_wrong_length_is_refused(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "empty", space_of(512))
    with pytest.raises(InvalidEmbedding, match="511"):
        await search(session, gallery, [np.ones(511, np.float32)])


async def test_an_empty_gallery_has_no_candidates(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "empty", space_of(512))
    assert await search(session, gallery, [np.ones(512, np.float32)] * 3) == [[], [], []]


@pytest.mark.parametrize("limit", [0, 1001])
async def test_a_limit_out_of_range_is_refused(session: AsyncSession, limit: int) -> None:
    gallery = await create_gallery(session, "empty", space_of(512))
    with pytest.raises(InvalidRequest, match="limit"):
        await search(session, gallery, [np.ones(512, np.float32)], limit)
