"""The chosen search plans leave room for every mate that their bounds promise to find."""

import numpy as np
import pytest

from service.embedding import Metric
from service.gallery.codes import TEMPLATE_BITS, has_codes, template_codes
from service.gallery.search.distances import CodeGeometry, max_distance, share_of_strangers
from service.gallery.search.plans import Plan, PlanInputs, SearchPath, choose, plans
from service.gallery.templates import CLOSE
from tests.support.galleries import Matrix, space_of, unit

LIMIT = 5


def shape(
    people: int, references: int = 1, threshold: float = 0.4, dimension: int = 512, metric: Metric = "cosine"
) -> PlanInputs:
    """Return the shape of a gallery whose people have one template each."""
    is_coded = has_codes(space_of(dimension, metric))
    return PlanInputs(people * references, people, threshold, dimension, metric, is_coded)


def plan_of(path: SearchPath, gallery: PlanInputs, limit: int = LIMIT) -> Plan:
    (plan,) = (plan for plan in plans(gallery, limit) if plan.path is path)
    return plan


@pytest.mark.parametrize("dimension", [128, 255, 512])
def test_a_euclidean_space_is_searched_without_codes(dimension: int) -> None:
    """The bits of a code tell angles only, and Euclidean embeddings are not centered on zero."""
    assert not has_codes(space_of(dimension, "euclidean"))
    assert choose(shape(100_000, dimension=dimension, metric="euclidean"), LIMIT).path is SearchPath.ALL


def test_only_people_of_one_reference_each_get_the_bound_of_single_references() -> None:
    assert plan_of(SearchPath.PEOPLE, shape(100_000, 1)).max_distance_single_reference is not None
    assert plan_of(SearchPath.PEOPLE, shape(100_000, 3)).max_distance_single_reference is None


def test_a_mean_is_taken_over_all_references_of_a_person_also_with_a_filter() -> None:
    """The prefilter of faces would leave out the references that are far from the probe."""
    large = shape(1_000_000, 20)
    assert choose(large, LIMIT, is_filtered=True).face_prefilter is not None
    assert choose(large, LIMIT, mean_of=3).face_prefilter is None
    assert choose(large, LIMIT, is_filtered=True, mean_of=3).face_prefilter is None


@pytest.mark.parametrize("threshold", [0.4, 0.3])
@pytest.mark.parametrize("people", [5_000, 1_000_000, 100_000_000])
def test_the_bound_of_single_references_includes_the_mates_at_the_threshold(people: int, threshold: float) -> None:
    plan = plan_of(SearchPath.PEOPLE, shape(people, threshold=threshold))
    assert plan.max_distance_single_reference is not None
    assert plan.max_distance_single_reference >= max_distance(CodeGeometry(512, TEMPLATE_BITS), threshold)


@pytest.mark.parametrize("threshold", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("people", [1_000, 100_000])
def test_the_bound_of_an_exact_scan_excludes_no_match(people: int, threshold: float) -> None:
    plan = choose(shape(people, threshold=threshold, dimension=128), LIMIT)
    assert plan.path is SearchPath.ALL
    assert plan.max_distance is not None
    assert -plan.max_distance <= threshold


@pytest.mark.parametrize("path", [SearchPath.FACES, SearchPath.PEOPLE])
@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("people", [200, 500, 2_000, 100_000])
def test_strangers_within_the_bound_fill_the_list(path: SearchPath, references: int, people: int) -> None:
    """A list shorter than the limit costs a second search, with the exact plan."""
    assert plan_of(path, shape(people, references)).expected >= 3 * LIMIT


def test_the_rerank_limit_includes_everyone_within_the_bound_even_in_a_dense_crowd() -> None:
    """Embeddings of real people share a direction, so that more strangers are near than if they were spread evenly."""
    people = 20_000
    plan = plan_of(SearchPath.PEOPLE, shape(people, 3))
    assert plan.max_distance is not None
    crowd = dense_crowd(people + 40, share=0.01)
    strangers, probes = signs(crowd[:people]), signs(crowd[people:])
    within = np.count_nonzero((TEMPLATE_BITS - probes @ strangers.T) / 2 <= plan.max_distance, axis=1)
    even = people * share_of_strangers(CodeGeometry(512, TEMPLATE_BITS, CLOSE), int(plan.max_distance))
    assert within.mean() > 1.5 * even
    assert within.max() <= plan.rerank_limit


def dense_crowd(people: int, share: float) -> Matrix:
    """Return embeddings whose cosines with each other have the mean `share`."""
    random = np.random.default_rng(0)
    shared, own = unit(random.standard_normal(512)), unit(random.standard_normal((people, 512)))
    return unit(np.sqrt(share) * shared + np.sqrt(1 - share) * own)


def signs(embeddings: Matrix) -> Matrix:
    """Return the template codes as rows of 1 and -1: the product of two rows is bits - 2 * distance."""
    return np.asarray(1 - 2.0 * np.unpackbits(template_codes(embeddings), axis=1), dtype=np.float32)
