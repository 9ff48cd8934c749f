"""Chooses the search plan: exact scan, person codes or face codes.

The choice depends on the size of the gallery and on its embedding space, never on PostgreSQL's planner. Every plan
returns the same people. The costs are microseconds on one core, measured by `python -m benchmarks.paths`. A factor of
two is precise enough, because near a crossing both plans cost the same.
"""

from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from math import ceil, sqrt
from statistics import NormalDist

from service.embedding import Metric
from service.gallery.codes import FACE_BITS, TEMPLATE_BITS, has_codes
from service.gallery.galleries import Gallery
from service.gallery.search.distances import (
    CodeGeometry,
    distance_for_share,
    max_distance,
    prefilter_distance,
    share_of_strangers,
)
from service.gallery.templates import CLOSE


class SearchPath(Enum):
    """How a search finds the references that it compares exactly."""

    ALL = "all"
    """Compare every reference of the gallery."""
    FACES = "faces"
    """Compare the references whose code is near the probe's. For people with very many references."""
    PEOPLE = "people"
    """Compare the references of people with a template near the probe. The cost grows with people, not with faces."""
    CHOSEN = "chosen"
    """Compare all references of the people that pass a filter."""

    @property
    def is_exact(self) -> bool:
        """Whether the path compares every reference that could match, so that no mate can be missed."""
        return self in (SearchPath.ALL, SearchPath.CHOSEN)


@dataclass(frozen=True)
class Plan:
    """A search plan for one gallery.

    `max_distance` is the greatest distance from the probe: bits, or for the exact scan a distance in the space's
    metric. None excludes nothing. `rerank_limit` bounds the number of rows that go on to the exact comparison, and
    `expected` estimates it. `face_prefilter`: of the people within `max_distance`, only faces whose own code is within
    this many bits are compared exactly; None compares all. `max_distance_single_reference` replaces `max_distance`
    while every person has one reference per template. The statement reads that from the gallery's counters when it
    runs, because it may have changed since the lookup.
    """

    path: SearchPath
    rerank_limit: int = 0
    max_distance: float | None = None
    expected: float = 0.0
    face_prefilter: float | None = None
    max_distance_single_reference: float | None = None


_STATEMENT_COST = {SearchPath.ALL: 0.0, SearchPath.FACES: 150.0, SearchPath.PEOPLE: 130.0}
_ROW_COST = {SearchPath.ALL: 0.33, SearchPath.FACES: 0.115, SearchPath.PEOPLE: 0.085}
"""Microseconds per row: a face read and compared, its code, a template's code."""
_SORT_COST = 0.05
"""Microseconds per row that goes into a sort, because no bound excludes it."""
_RERANK_COST = 1.5
_COMPARE_COST = 0.5
_PREFILTER_COST = 0.2
_MINIMUM_RERANK_LIMIT = 8
_SPREAD = 2
"""Real embeddings crowd together more than evenly spread ones, so the rerank limit is multiplied by this."""
_MAXIMUM_LISTED_SHARE = 0.3
_MINIMUM_PEOPLE_TO_PREFILTER = 200
_SCAN_BOUND_SHARE = 0.01


@dataclass(frozen=True)
class PlanInputs:
    """The inputs of the choice."""

    faces: int
    templates: int
    threshold: float
    dimension: int
    metric: Metric
    has_codes: bool


def plan_inputs(gallery: Gallery) -> PlanInputs:
    """The inputs of the choice for a gallery."""
    space = gallery.space
    sizes = (gallery.faces, gallery.templates, gallery.threshold)
    return PlanInputs(*sizes, space.dimension, space.metric, has_codes(space))


@lru_cache(maxsize=1024)
def choose(inputs: PlanInputs, limit: int, *, is_filtered: bool = False, mean_of: int = 1) -> Plan:
    """The cheapest plan for one probe and `limit` candidates."""
    if not inputs.has_codes:
        return Plan(SearchPath.CHOSEN) if is_filtered or mean_of > 1 else _exact_scan(inputs, limit)
    people = _code_plan(SearchPath.PEOPLE, inputs, inputs.templates, limit)
    if mean_of > 1:
        # A mean needs the distances of all references of a person, also of those whose own code is not near.
        people = replace(people, face_prefilter=None)
    if is_filtered:
        return people if people.max_distance is not None else Plan(SearchPath.CHOSEN)
    if mean_of > 1:
        return people
    return min(plans(inputs, limit), key=lambda plan: cost(plan, inputs))


def plans(inputs: PlanInputs, limit: int) -> list[Plan]:
    """Every plan for a search without filter or mean in a space with codes."""
    people = _code_plan(SearchPath.PEOPLE, inputs, inputs.templates, limit)
    return [Plan(SearchPath.ALL), people, _code_plan(SearchPath.FACES, inputs, inputs.faces, limit)]


def exact(*, is_filtered: bool = False, mean_of: int = 1) -> Plan:
    """The exact plan, which the other plans are measured against."""
    return Plan(SearchPath.CHOSEN) if is_filtered or mean_of > 1 else Plan(SearchPath.ALL)


def _code_plan(path: SearchPath, inputs: PlanInputs, size: int, limit: int) -> Plan:
    codes = CodeGeometry(inputs.dimension, FACE_BITS)
    if path is SearchPath.PEOPLE:
        codes = CodeGeometry(inputs.dimension, TEMPLATE_BITS, CLOSE)
    bound = max_distance(codes, inputs.threshold)
    if _strangers_to_list(limit) > size * _MAXIMUM_LISTED_SHARE:
        return Plan(path, size, expected=size)
    # In a small gallery the bound reaches farther than mates lie, so that strangers fill the list. A short list costs a
    # second search.
    bound = max(bound, distance_for_share(codes, _strangers_to_list(limit) / size))
    strangers = size * share_of_strangers(codes, bound)
    # Number of strangers that may be nearer than the farthest mate, except for a few in 100,000 probes (four standard
    # deviations).
    rerank_limit = _MINIMUM_RERANK_LIMIT + _SPREAD * (limit + ceil(strangers + 4 * sqrt(strangers)))
    if path is SearchPath.FACES:
        return Plan(path, rerank_limit, bound, strangers)
    if inputs.templates == inputs.faces:
        return _for_single_references(Plan(path, rerank_limit, bound), inputs, limit)
    return Plan(path, rerank_limit, bound, strangers, _face_prefilter(inputs, strangers, limit))


def _for_single_references(plan: Plan, inputs: PlanInputs, limit: int) -> Plan:
    """With one reference per person, the template is the reference, and the bound needs less room between mates and
    strangers.
    """
    codes = CodeGeometry(inputs.dimension, TEMPLATE_BITS)
    listed = distance_for_share(codes, _strangers_to_list(limit) / inputs.templates)
    bound = max(max_distance(codes, inputs.threshold), listed)
    return replace(
        plan, max_distance_single_reference=bound, expected=inputs.templates * share_of_strangers(codes, bound)
    )


def _face_prefilter(inputs: PlanInputs, people: float, limit: int) -> int | None:
    """Bound on a face's own code if many people are expected, else None: compare all their faces."""
    codes = CodeGeometry(inputs.dimension, FACE_BITS)
    bound = prefilter_distance(codes, inputs.threshold)
    compared = people * inputs.faces / max(1, inputs.templates) * share_of_strangers(codes, bound)
    return bound if people >= _MINIMUM_PEOPLE_TO_PREFILTER and compared >= _strangers_to_list(limit) else None


def _strangers_to_list(limit: int) -> int:
    """Number of strangers to expect within a bound, so that the list is hardly ever shorter than `limit`."""
    return 3 * limit + 5


def _exact_scan(inputs: PlanInputs, limit: int) -> Plan:
    """Exact scan. A bound that excludes nearly all strangers saves sorting and grouping them."""
    share = max(_SCAN_BOUND_SHARE, 4 * _strangers_to_list(limit) / max(1, inputs.faces))
    if inputs.metric == "euclidean" or share > _MAXIMUM_LISTED_SHARE:
        return Plan(SearchPath.ALL)
    strangers = -NormalDist().inv_cdf(share) / sqrt(inputs.dimension)
    return Plan(SearchPath.ALL, max_distance=-min(strangers, inputs.threshold))


def cost(plan: Plan, inputs: PlanInputs) -> float:
    """Estimated microseconds of the server for one probe, without the fixed cost of a statement.

    A filter is counted as if every person passed it.
    """
    if plan.path.is_exact:
        return inputs.faces * _ROW_COST[SearchPath.ALL]
    read = inputs.templates if plan.path is SearchPath.PEOPLE else inputs.faces
    compared = plan.expected * (inputs.faces / max(1, inputs.templates) if plan.path is SearchPath.PEOPLE else 1.0)
    reading = read * (_ROW_COST[plan.path] + (_SORT_COST if plan.max_distance is None else 0.0))
    comparing = compared * (_COMPARE_COST if plan.face_prefilter is None else _PREFILTER_COST)
    return _STATEMENT_COST[plan.path] + reading + plan.expected * _RERANK_COST + comparing
