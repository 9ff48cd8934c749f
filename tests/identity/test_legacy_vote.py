"""The policy `legacy-vote` decides as the legacy recognizer did: in memory, and by SQL over a gallery."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.binary import half_vector_type, half_vectors
from service.embedding import EmbeddingSpace, external_space
from service.gallery.bulk_writing import ReferenceRow, add_references
from service.gallery.galleries import Gallery, create_gallery
from service.gallery.votes import Votes, count_votes, statement_of
from service.identity.legacy_vote import count_votes_in_memory, decide_by_votes, voting_similarity
from tests.support import legacy_recognizer

Matrix = npt.NDArray[np.float64]


def space_of(dimension: int) -> EmbeddingSpace:
    space = external_space(f"external:test:{dimension}")
    assert space is not None
    return space


def euclidean(dimension: int) -> EmbeddingSpace:
    return EmbeddingSpace("test", f"euclidean-{dimension}", dimension, "euclidean", 0.4)


def dataset(seed: int, rows: int, people: int, dimension: int) -> tuple[list[str], Matrix, Matrix]:
    """Labels in any order; references and probes, not normalized, whose cosines are all near 0.3."""
    random = np.random.default_rng(seed)
    probes = random.standard_normal((4, dimension))
    labels = [f"person {number}" for number in random.integers(people, size=rows)]
    references = []
    for row in range(rows):
        probe = probes[row % 3] / np.linalg.norm(probes[row % 3])
        other = random.standard_normal(dimension)
        other -= other @ probe * probe
        cosine = random.choice([0.6, 0.3 + random.normal(0, 3e-4), 0.3 + random.normal(0, 0.1), -0.2])
        unit = cosine * probe + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)
        references.append(unit * random.uniform(0.1, 30))
    return labels, np.array(references), probes


def winner(votes: Sequence[Votes]) -> str:
    elected = decide_by_votes(votes)
    return legacy_recognizer.NOBODY if elected is None else elected.name


@settings(max_examples=200, deadline=None)
@given(
    seed=strategies.integers(0, 2**32),
    rows=strategies.integers(1, 60),
    people=strategies.integers(1, 12),
    dimension=strategies.sampled_from([3, 16, 128]),
)
def test_random_datasets_are_decided_as_by_the_legacy_recognizer(
    seed: int, rows: int, people: int, dimension: int
) -> None:
    labels, references, probes = dataset(seed, rows, people, dimension)
    votes = count_votes_in_memory(labels, references, probes, space_of(dimension))
    expected = [legacy_recognizer.match(labels, references, probe) for probe in probes]
    assert [winner(each) for each in votes] == expected


def test_the_most_votes_win_over_the_nearest_reference() -> None:
    labels = ["near", "many", "many"]
    references = np.array([[1.0, 0.0], [0.5, 0.8], [0.5, -0.8]])
    (votes,) = count_votes_in_memory(labels, references, np.array([[1.0, 0.0]]), space_of(2))
    assert winner(votes) == "many"


def test_the_first_label_of_the_dataset_wins_a_tie() -> None:
    labels = ["zoe", "ada", "ada", "zoe"]
    references = np.array([[0.9, 0.1], [1.0, 0.0], [1.0, 0.0], [0.9, 0.1]])
    (votes,) = count_votes_in_memory(labels, references, np.array([[1.0, 0.0]]), space_of(2))
    assert winner(votes) == "zoe"
    assert [(each.name, each.count) for each in votes] == [("zoe", 2), ("ada", 2)]


def test_nobody_wins_without_a_vote() -> None:
    assert decide_by_votes([]) is None
    (votes,) = count_votes_in_memory(["ada"], np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]]), space_of(2))
    assert votes == []


def test_a_cosine_of_exactly_the_threshold_does_not_count_as_a_vote() -> None:
    references = np.array([[3.0, 4.0]])
    (votes,) = count_votes_in_memory(["ada"], references, np.array([[1.0, 0.0]]), space_of(2))
    assert votes[0].count == 1
    assert voting_similarity(space_of(2)) == 0.3
    cosine = 0.3
    exact = np.array([[cosine, np.sqrt(1 - cosine**2)]])
    assert (exact[0, 0] / np.linalg.norm(exact)) <= 0.3
    assert count_votes_in_memory(["ada"], exact, np.array([[1.0, 0.0]]), space_of(2)) == [[]]


def test_a_space_of_distances_votes_by_its_own_threshold() -> None:
    """dlib's embeddings of strangers have cosines above 0.8: counting those above 0.3 would count everybody."""
    references = np.array([[1.0, 0.5], [1.0, 0.7]])
    (votes,) = count_votes_in_memory(["near", "far"], references, np.array([[1.0, 0.0]]), euclidean(2))
    assert [one.name for one in votes] == ["near"]


async def filled(session: AsyncSession, space: EmbeddingSpace, labels: Sequence[str], references: Matrix) -> Gallery:
    gallery = await create_gallery(session, "legacy", space)
    rows = [ReferenceRow(label, None, values) for label, values in zip(labels, references, strict=True)]
    await add_references(session, gallery, rows)
    return gallery


@pytest.mark.parametrize("dimension", [16, 128, 512])
@pytest.mark.parametrize("seed", range(4))
async def test_sql_counts_votes_as_the_legacy_recognizer(session: AsyncSession, dimension: int, seed: int) -> None:
    labels, references, probes = dataset(seed, 300, 9, dimension)
    space = space_of(dimension)
    gallery = await filled(session, space, labels, references)
    narrow = [probe.astype(np.float32) for probe in probes]
    votes = await count_votes(session, gallery, narrow, 0.3)
    assert [winner(each) for each in votes] == [legacy_recognizer.match(labels, references, probe) for probe in narrow]
    in_memory = count_votes_in_memory(labels, references, np.array(narrow, dtype=np.float64), space)
    for counted, expected in zip(votes, in_memory, strict=True):
        most = max((one.count for one in expected), default=0)
        best = [(one.name, one.count) for one in expected if one.count == most]
        assert [(one.name, one.count) for one in counted if one.count == most] == best


async def test_sql_decides_ties_by_the_first_in_the_dataset(session: AsyncSession) -> None:
    labels = ["zoe", "ada", "ada", "bob", "zoe", "bob"]
    references = np.tile([1.0, 0.2, 0.1], (6, 1))
    gallery = await filled(session, space_of(3), labels, references)
    (votes,) = await count_votes(session, gallery, [np.array([1, 0, 0], dtype=np.float32)], 0.3)
    assert winner(votes) == "zoe"
    assert [(each.name, each.count) for each in votes] == [("zoe", 2), ("ada", 2), ("bob", 2)]


@pytest.mark.parametrize("seed", range(3))
async def test_sql_counts_distances_exactly(session: AsyncSession, seed: int) -> None:
    random = np.random.default_rng(seed)
    probe = random.normal(0, 0.15, 128).astype(np.float32)
    directions = random.standard_normal((400, 128))
    distances = 0.6 + random.choice([0.1, 3e-4, 1e-5], size=(400, 1)) * random.standard_normal((400, 1))
    references = probe + directions / np.linalg.norm(directions, axis=1)[:, None] * distances
    labels = [f"person {number}" for number in random.integers(6, size=400)]
    space = euclidean(128)
    gallery = await filled(session, space, labels, references)
    (votes,) = await count_votes(session, gallery, [probe], space.threshold)
    (expected,) = count_votes_in_memory(labels, references, probe[None].astype(np.float64), space)
    assert winner(votes) == winner(expected)
    most = max(one.count for one in expected)
    assert max(one.count for one in votes) == most


async def test_no_probe_and_no_reference_give_no_votes(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "empty", space_of(3))
    assert await count_votes(session, gallery, [], 0.3) == []
    assert await count_votes(session, gallery, [np.ones(3, dtype=np.float32)], 0.3) == [[]]


async def test_votes_are_counted_in_the_tenants_own_gallery_only(
    session: AsyncSession, other_session: AsyncSession
) -> None:
    gallery = await filled(session, space_of(3), ["ada"], np.ones((1, 3)))
    await session.flush()
    (votes,) = await count_votes(other_session, gallery, [np.ones(3, dtype=np.float32)], 0.3)
    assert votes == []


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


@pytest.mark.parametrize("dimension", [64, 512])
async def test_the_statement_reads_by_whole_keys_right_after_a_load(session: AsyncSession, dimension: int) -> None:
    labels, references, _ = dataset(1, 3000, 600, dimension)
    gallery = await filled(session, space_of(dimension), labels, references)
    values = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "vectors": half_vectors(references[:2].astype(np.float32), await half_vector_type(session)),
        "possible": 0.29,
        "certain": 0.31,
    }
    explain = text(f"EXPLAIN (FORMAT JSON) {statement_of(gallery.space)}")
    (plan,) = await session.scalar(explain, values)
    found = list(nodes(plan["Plan"]))
    assert not {node["Node Type"] for node in found} & {"Seq Scan", "Bitmap Heap Scan", "Hash Join", "Merge Join"}
    keys = {node["Index Name"]: node["Index Cond"] for node in found if "Index Name" in node}
    assert "id = " in keys["person_pkey"].split("gallery_id")[1]
    assert "face_id = " in keys["face_detail_pkey"]
    assert any(node.get("Index Name") in {"face_pkey", "face_inline_index"} for node in found)
