"""Search against brute force in NumPy, for every search plan, as the service role under row-level security."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.embedding import similarity_from
from service.errors import EmbeddingSpaceMismatch, InvalidEmbedding, InvalidRequest
from service.gallery.bulk_writing import ReferenceRow, add_references
from service.gallery.codes import FACE_BITS
from service.gallery.faces import NewFace, add_faces, move_face
from service.gallery.galleries import create_gallery, find_gallery
from service.gallery.people import create_person, delete_person, list_people
from service.gallery.search.distances import CodeGeometry, prefilter_distance
from service.gallery.search.plans import choose, plan_inputs
from service.gallery.search.search import best_reference, candidates_of, search, search_by, search_galleries
from service.gallery.search.statements import CandidateRow
from tests.gallery.conftest import Case
from tests.support.galleries import Matrix, crowd_of, gallery_of, near, space_of

EXACTLY: dict[str, Any] = {"abs": 2e-3}  # halfvec keeps about three decimal digits of a component
CASES = [
    "small",
    "middle",
    "large",
    "differing",
    "many references",
    "256 dimensions",
    "128 dimensions",
    "euclidean",
    "7 dimensions",
]


def probes_near(case: Case, cosine: float, count: int = 40) -> list[Matrix]:
    """Probes near references picked at random."""
    picked = np.random.default_rng(1).choice(len(case.crowd.names), count)
    if case.gallery.space.metric == "euclidean":
        return [case.crowd.embeddings[place] + np.float32((1 - cosine) / 40) for place in picked]
    return [near(case.crowd.embeddings[place], cosine, int(place)) for place in picked]


@pytest.mark.parametrize("name", CASES)
def test_the_search_path_is_chosen_by_size_and_space(crowds: dict[str, Case], name: str) -> None:
    plan = choose(plan_inputs(crowds[name].gallery), 5)
    assert (plan.path, plan.max_distance is not None) == (crowds[name].path, crowds[name].is_bounded)


@pytest.mark.parametrize("cosine", [0.9, 0.6, 0.45, 0.4])
@pytest.mark.parametrize("name", CASES)
async def test_search_finds_every_match_that_brute_force_finds(
    crowded: AsyncSession, crowds: dict[str, Case], name: str, cosine: float
) -> None:
    case = crowds[name]
    probes = probes_near(case, cosine)
    for probe, candidates in zip(probes, await search(crowded, case.gallery, probes), strict=True):
        expected = case.crowd.best(probe, case.gallery.space.metric)[:5]
        matches = [similarity for _, similarity in expected if similarity >= case.gallery.threshold]
        similarities = [candidate.similarity for candidate in candidates]
        assert similarities[: len(matches)] == pytest.approx(matches, **EXACTLY)
        assert not matches or candidates[0].name == expected[0][0]
        assert similarities == sorted(similarities, reverse=True)
        assert len({candidate.person_id for candidate in candidates}) == 5


@pytest.mark.parametrize("name", ["middle", "large", "differing", "256 dimensions"])
async def test_the_prefilter_of_faces_loses_no_mate(crowded: AsyncSession, crowds: dict[str, Case], name: str) -> None:
    """Galleries large enough for this filter take too long to load here, so the test forces the filter."""
    case = crowds[name]
    plan = choose(plan_inputs(case.gallery), 5)
    plan = replace(plan, face_prefilter=prefilter_distance(CodeGeometry(case.gallery.space.dimension, FACE_BITS), 0.4))
    for cosine in (0.8, 0.4):
        probes = probes_near(case, cosine)
        for probe, candidates in zip(probes, await search_by(crowded, case.gallery, plan, probes), strict=True):
            person, similarity = case.crowd.best(probe)[0]
            assert candidates[0].name == person
            assert candidates[0].similarity == pytest.approx(similarity, **EXACTLY)


@pytest.mark.parametrize("name", ["small", "euclidean", "7 dimensions"])
async def test_an_exact_scan_lists_strangers_in_order_too(
    crowded: AsyncSession, crowds: dict[str, Case], name: str
) -> None:
    case = crowds[name]
    metric = case.gallery.space.metric
    for probe in probes_near(case, 0.3, 10):
        (candidates,) = await search(crowded, case.gallery, [probe], limit=10)
        expected = [
            similarity_from(metric, s if metric == "cosine" else 1 - s) for _, s in case.crowd.best(probe, metric)
        ]
        assert [candidate.similarity for candidate in candidates] == pytest.approx(expected[:10], **EXACTLY)


@pytest.mark.parametrize("name", CASES)
async def test_a_probe_gets_the_same_candidates_alone_and_among_many(
    crowded: AsyncSession, crowds: dict[str, Case], name: str
) -> None:
    case = crowds[name]
    probes = probes_near(case, 0.5, 8)
    together = await search(crowded, case.gallery, probes, limit=3)
    assert [(await search(crowded, case.gallery, [probe], limit=3))[0] for probe in probes] == together


async def test_a_thousand_probes_fit_into_one_search(crowded: AsyncSession, crowds: dict[str, Case]) -> None:
    case = crowds["small"]
    places = np.arange(1000) % len(case.crowd.names)
    found = await search(crowded, case.gallery, [case.crowd.embeddings[place] for place in places], limit=1)
    assert [candidates[0].name for candidates in found] == [case.crowd.names[place] for place in places]
    with pytest.raises(InvalidRequest, match="1001"):
        await search(crowded, case.gallery, [case.crowd.embeddings[0]] * 1001)


async def test_a_person_with_very_many_references_does_not_push_others_off_the_list(
    crowded: AsyncSession, crowds: dict[str, Case]
) -> None:
    case = crowds["many references"]
    center = np.mean(
        [values for name, values in zip(case.crowd.names, case.crowd.embeddings, strict=True) if name == "person 3"],
        axis=0,
    )
    (candidates,) = await search(crowded, case.gallery, [center])
    assert len({candidate.name for candidate in candidates}) == 5
    assert candidates[0].name == "person 3"


@pytest.mark.parametrize("name", CASES)
async def test_a_metadata_filter_finds_all_matching_people_behind_nearer_strangers(
    crowded: AsyncSession, crowds: dict[str, Case], name: str
) -> None:
    """The nearest people do not have the tag, and people farther away do: these must be found."""
    case = crowds[name]
    rows = [
        ReferenceRow(f"tagged {number}", None, values, metadata={"tags": ["vip", "x"], "floor": number})
        for number, values in enumerate(probes_near(case, 0.45, 4))
    ]
    await add_references(crowded, case.gallery, rows)
    gallery = await find_gallery(crowded, case.gallery.name)
    probe = case.crowd.embeddings[np.random.default_rng(1).choice(len(case.crowd.names), 40)[2]]
    (found,) = await search(crowded, gallery, [probe], metadata={"tags": ["vip"]})
    assert {candidate.name for candidate in found} == {f"tagged {number}" for number in range(4)}
    assert found[0].name == "tagged 2"
    (found,) = await search(crowded, gallery, [probe], metadata={"floor": 3, "tags": ["x"]})
    assert [candidate.name for candidate in found] == ["tagged 3"]
    assert (await search(crowded, gallery, [probe] * 2, metadata={"tags": ["nobody"]})) == [[], []]


async def test_a_filter_that_is_not_json_is_refused(crowded: AsyncSession, crowds: dict[str, Case]) -> None:
    with pytest.raises(InvalidRequest, match="metadata"):
        await search(crowded, crowds["small"].gallery, [crowds["small"].crowd.embeddings[0]], metadata={"a": {1}})


@pytest.mark.parametrize("mean_of", [2, 3])
@pytest.mark.parametrize("name", ["small", "middle", "large", "128 dimensions", "euclidean"])
async def test_a_person_can_be_scored_by_the_mean_of_several_references(
    crowded: AsyncSession, crowds: dict[str, Case], name: str, mean_of: int
) -> None:
    case = crowds[name]
    metric = case.gallery.space.metric
    for probe in probes_near(case, 0.8, 5):
        (candidates,) = await search(crowded, case.gallery, [probe], mean_of=mean_of)
        similarities: dict[str, list[float]] = {}
        for person, similarity in zip(case.crowd.names, case.crowd.similarities(probe, metric), strict=True):
            similarities.setdefault(person, []).append(similarity)
        means = {person: float(np.mean(sorted(found)[-mean_of:])) for person, found in similarities.items()}
        best = max(means, key=lambda person: means[person])
        assert candidates[0].name == best
        assert candidates[0].similarity == pytest.approx(max(0.0, means[best]), **EXACTLY)


async def test_several_galleries_are_searched_as_one(crowded: AsyncSession, crowds: dict[str, Case]) -> None:
    galleries = [crowds[name].gallery for name in ("small", "middle", "large")]
    probes = [crowds[name].crowd.embeddings[7] for name in ("large", "small", "middle")]
    merged = await search_galleries(crowded, galleries, probes, limit=4)
    assert [pairs[0][0].name for pairs in merged] == ["large", "small", "middle"]
    for probe, pairs in zip(probes, merged, strict=True):
        alone = [(await search(crowded, gallery, [probe], limit=4))[0] for gallery in galleries]
        similarities = sorted((candidate.similarity for found in alone for candidate in found), reverse=True)
        assert [candidate.similarity for _, candidate in pairs] == similarities[:4]


async def test_galleries_of_two_spaces_are_not_searched_together(
    crowded: AsyncSession, crowds: dict[str, Case]
) -> None:
    galleries = [crowds["small"].gallery, crowds["256 dimensions"].gallery]
    with pytest.raises(EmbeddingSpaceMismatch, match="512"):
        await search_galleries(crowded, galleries, [crowds["small"].crowd.embeddings[0]])


async def test_people_without_faces_are_never_candidates(session: AsyncSession) -> None:
    gallery = await gallery_of(session, crowd_of(3, 2))
    await create_person(session, gallery, "no face")
    (found,) = await search(session, await find_gallery(session, gallery.name), [crowd_of(3, 2).embeddings[0]])
    assert len(found) == 3


async def test_a_search_with_an_outdated_gallery_finds_added_people_and_no_deleted_people(
    crowded: AsyncSession, crowds: dict[str, Case]
) -> None:
    """The sizes in a Gallery only choose the search plan: an outdated size costs time, never a match."""
    for name in CASES:
        case = crowds[name]
        values = np.random.default_rng(5).standard_normal(case.gallery.space.dimension) * 0.1
        person = await create_person(crowded, case.gallery, "new")
        await add_faces(crowded, case.gallery, person, [NewFace(values)])
        (found,) = await search(crowded, case.gallery, [values.astype(np.float32)])
        assert found[0].name == "new", name
        await delete_person(crowded, case.gallery, person.id)
        (found,) = await search(crowded, case.gallery, [values.astype(np.float32)])
        assert "new" not in {candidate.name for candidate in found}, name


async def test_the_bound_of_single_references_applies_only_while_nobody_has_two_references(
    crowded: AsyncSession, crowds: dict[str, Case]
) -> None:
    """The sizes at the moment of the search decide, not the sizes at the lookup of the gallery."""
    case = crowds["large"]
    plan = choose(plan_inputs(case.gallery), 5)
    assert plan.max_distance is not None
    assert plan.max_distance_single_reference is not None
    assert plan.max_distance_single_reference < plan.max_distance
    plan = replace(plan, max_distance_single_reference=300.0)  # nobody is so near
    (probe,) = probes_near(case, 0.5, 1)
    assert await search_by(crowded, case.gallery, plan, [probe]) == [[]]
    person = await create_person(crowded, case.gallery, "of two references")
    await add_faces(crowded, case.gallery, person, [NewFace(near(np.eye(512)[0], 0.9, seed)) for seed in (1, 2)])
    ((found, *_),) = await search_by(crowded, case.gallery, plan, [probe], 1)
    assert found.name == case.crowd.best(probe)[0][0]


async def test_a_gallery_that_was_empty_at_the_lookup_is_searched_correctly_after_it_grew_large(
    crowded: AsyncSession, crowds: dict[str, Case]
) -> None:
    case = crowds["large"]
    outdated = replace(case.gallery, people=0, faces=0, templates=0)
    probes = probes_near(case, 0.5, 5)
    fresh = await search(crowded, case.gallery, probes, limit=1)
    assert await search(crowded, outdated, probes, limit=1) == fresh


async def test_a_probe_of_the_wrong_length_is_refused(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "empty", space_of(512))
    with pytest.raises(InvalidEmbedding, match="511"):
        await search(session, gallery, [np.ones(511, np.float32)])


async def test_an_empty_gallery_has_no_candidates(session: AsyncSession) -> None:
    gallery = await create_gallery(session, "empty", space_of(512))
    assert await search(session, gallery, [np.ones(512, np.float32)] * 3) == [[], [], []]
    assert await search(session, gallery, []) == []


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 1001}, {"mean_of": 0}])
async def test_numbers_out_of_range_are_refused(session: AsyncSession, wrong: dict[str, Any]) -> None:
    gallery = await create_gallery(session, "empty", space_of(512))
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        await search(session, gallery, [np.ones(512, np.float32)], **wrong)


async def test_a_search_by_another_tenant_finds_nobody(crowds: dict[str, Case], session: AsyncSession) -> None:
    for case in crowds.values():
        assert await search(session, case.gallery, [case.crowd.embeddings[0]]) == [[]]
    assert (await list_people(session, crowds["small"].gallery)).items == []


@pytest.mark.parametrize("factor", [3e-23, 1e-12, 1e12, 1e17])
async def test_the_length_of_a_probe_changes_no_similarity(
    crowded: AsyncSession, crowds: dict[str, Case], factor: float
) -> None:
    """In float32 the square of such a short or long probe loses digits, or overflows."""
    case = crowds["small"]
    probe = near(case.crowd.embeddings[7], 0.7)
    expected, found = [
        (await search(crowded, case.gallery, [values]))[0] for values in (probe, probe * np.float32(factor))
    ]
    assert [candidate.person_id for candidate in found] == [candidate.person_id for candidate in expected]
    assert [candidate.similarity for candidate in found] == pytest.approx(
        [candidate.similarity for candidate in expected], abs=1e-4
    )


def test_a_reference_on_the_opposite_side_has_no_similarity() -> None:
    rows = [CandidateRow(1, 1, "Ada", None, 1, 0.9), CandidateRow(1, 2, "Grace", None, 2, -0.9)]
    ((opposite, like),) = candidates_of(rows, 1, "cosine")
    assert opposite.similarity == 0.0
    assert like.similarity == pytest.approx(0.9)


@pytest.mark.parametrize("dimension", [7, 512])
async def test_the_older_of_two_equal_references_is_named_whatever_plan_the_server_takes(
    session: AsyncSession, dimension: int
) -> None:
    """The older reference is moved to another person and back, so that its row is behind the newer one's."""
    gallery = await create_gallery(session, "staff", space_of(dimension))
    ada, grace = [await create_person(session, gallery, name) for name in ("Ada", "Grace")]
    values = np.linspace(-1, 1, dimension).astype(np.float32)
    older, _ = await add_faces(session, gallery, ada, [NewFace(values)] * 2)
    await move_face(session, gallery, ada, older.id, grace)
    await move_face(session, gallery, grace, older.id, ada)
    for scan in ("index scan", "sequential scan"):
        if scan == "sequential scan":
            off = "SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off"
            await session.execute(text(f"{off}; SET LOCAL enable_seqscan = on"))
        ((found,),) = await search(session, await find_gallery(session, "staff"), [values])
        assert found.face_id == older.id, scan
        best = await best_reference(session, gallery, ada, values)
        assert best is not None
        assert best.face_id == older.id, scan


@pytest.mark.parametrize("dimension", [7, 512])
async def test_people_of_equal_similarity_are_listed_in_the_order_they_were_added(
    session: AsyncSession, dimension: int
) -> None:
    gallery = await create_gallery(session, "staff", space_of(dimension))
    random = np.random.default_rng(0)
    twin = random.standard_normal(dimension)
    rows = [ReferenceRow(f"{number:02}", None, random.standard_normal(dimension)) for number in range(100)]
    for number in range(5, 100, 10):
        rows[number] = replace(rows[number], values=twin)
    for row in rows:
        await add_references(session, gallery, [row])
    names = [row.name for row in rows[5::10]]
    (found,) = await search(session, await find_gallery(session, "staff"), [twin.astype(np.float32)], limit=12)
    assert [candidate.name for candidate in found[: len(names)]] == names
