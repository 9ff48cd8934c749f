"""Which way a search goes: decided by how much the gallery holds and by its embedding space, never by the planner.

Every way gives the same people. The prices are microseconds on one core, measured by `python -m benchmarks.paths`;
they need to be right to a factor of two, since near the crossings both ways cost the same.
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
    distance_within_which,
    max_distance,
    strangers_within,
    surely_within,
)
from service.gallery.templates import CLOSE


class SearchPath(Enum):
    """How the references to be compared exactly are found."""

    ALL = "all"
    """Every reference of the gallery."""
    FACES = "faces"
    """Those whose code is near the probe's: for people with very many references."""
    PEOPLE = "people"
    """All references of people one of whose templates is near: the work grows with people, not with faces."""
    CHOSEN = "chosen"
    """All references of the people that a filter leaves."""


@dataclass(frozen=True)
class Plan:
    """One way through one gallery.

    `farthest` leaves out what is farther from the probe (bits; for ALL a distance as the space's metric gives it);
    None leaves nothing out. `depth` is the most that is looked at after that, `expected` what will be. `sieve`: of the
    people within `farthest`, only faces whose own code is within so many bits are compared exactly; None: all.
    `farthest_alone` takes the place of `farthest` as long as every template is a reference by itself, which the
    statement looks up in the gallery's sizes as they are then.
    """

    path: SearchPath
    rerank_limit: int = 0
    max_distance: float | None = None
    expected: float = 0.0
    face_prefilter: float | None = None
    max_distance_single_reference: float | None = None


_FIXED = {SearchPath.ALL: 0.0, SearchPath.FACES: 150.0, SearchPath.PEOPLE: 130.0}
_READ = {SearchPath.ALL: 0.33, SearchPath.FACES: 0.115, SearchPath.PEOPLE: 0.085}
"""A face read and compared, its code, a template's code."""
_SORTED = 0.05
"""More for everything that no bound leaves out."""
_RERANKED = 1.5
_COMPARED = 0.5
_SIEVED = 0.2
_LEAST_DEPTH = 8
_SPREAD = 2
"""Embeddings of less variety than isotropic ones crowd together: they are given so many times the depth."""
_MOST_LISTED = 0.3
_WORTH_A_SIEVE = 200
_INLINE_SHARE = 0.01


@dataclass(frozen=True)
class GalleryShape:
    """What the choice depends on."""

    faces: int
    templates: int
    threshold: float
    dimension: int
    metric: Metric
    has_codes: bool


def shape_of(gallery: Gallery) -> GalleryShape:
    """The shape of a gallery as it was looked up."""
    space = gallery.space
    sizes = (gallery.faces, gallery.templates, gallery.threshold)
    return GalleryShape(*sizes, space.dimension, space.metric, has_codes(space))


@lru_cache(maxsize=1024)
def choose(shape: GalleryShape, limit: int, *, is_filtered: bool = False, mean_of: int = 1) -> Plan:
    """The cheapest plan for one probe and `limit` candidates."""
    if not shape.has_codes:
        return Plan(SearchPath.CHOSEN) if is_filtered or mean_of > 1 else _inline(shape, limit)
    people = _coded(SearchPath.PEOPLE, shape, shape.templates, limit)
    if is_filtered:
        return people if people.max_distance is not None else Plan(SearchPath.CHOSEN)
    if mean_of > 1:
        return replace(people, face_prefilter=None)
    return min(plans(shape, limit), key=lambda plan: price(plan, shape))


def plans(shape: GalleryShape, limit: int) -> list[Plan]:
    """Every way that a search without filter or mean may go where there are codes."""
    people = _coded(SearchPath.PEOPLE, shape, shape.templates, limit)
    return [Plan(SearchPath.ALL), people, _coded(SearchPath.FACES, shape, shape.faces, limit)]


def exact(*, is_filtered: bool = False, mean_of: int = 1) -> Plan:
    """The plan that compares everything: what the others are measured by."""
    return Plan(SearchPath.CHOSEN) if is_filtered or mean_of > 1 else Plan(SearchPath.ALL)


def _coded(path: SearchPath, shape: GalleryShape, size: int, limit: int) -> Plan:
    codes = CodeGeometry(shape.dimension, FACE_BITS)
    if path is SearchPath.PEOPLE:
        codes = CodeGeometry(shape.dimension, TEMPLATE_BITS, CLOSE)
    bound = max_distance(codes, shape.threshold)
    if _listed(limit) > size * _MOST_LISTED:
        return Plan(path, size, expected=size)
    # In a small gallery a little farther than mates are: strangers fill the list, and a short one is asked for again.
    bound = max(bound, distance_within_which(codes, _listed(limit) / size))
    strangers = size * strangers_within(codes, bound)
    # So many may be nearer than the farthest mate, but for a few in 100,000 probes.
    rerank_limit = _LEAST_DEPTH + _SPREAD * (limit + ceil(strangers + 4 * sqrt(strangers)))
    if path is SearchPath.FACES:
        return Plan(path, rerank_limit, bound, strangers)
    if shape.templates == shape.faces:
        return _of_lone_references(Plan(path, rerank_limit, bound), shape, limit)
    return Plan(path, rerank_limit, bound, strangers, _face_prefilter(shape, strangers, limit))


def _of_lone_references(plan: Plan, shape: GalleryShape, limit: int) -> Plan:
    """Where each template is a reference there is less room between mates and strangers to allow for."""
    codes = CodeGeometry(shape.dimension, TEMPLATE_BITS)
    listed = distance_within_which(codes, _listed(limit) / shape.templates)
    bound = max(max_distance(codes, shape.threshold), listed)
    return replace(plan, max_distance_single_reference=bound, expected=shape.templates * strangers_within(codes, bound))


def _face_prefilter(shape: GalleryShape, people: float, limit: int) -> int | None:
    """How near a face's own code has to be where so many people are expected; None where all may be compared."""
    codes = CodeGeometry(shape.dimension, FACE_BITS)
    bound = surely_within(codes, shape.threshold)
    left = people * shape.faces / max(1, shape.templates) * strangers_within(codes, bound)
    return bound if people >= _WORTH_A_SIEVE and left >= _listed(limit) else None


def _listed(limit: int) -> int:
    """How many strangers are to be expected within a bound, so that hardly ever fewer than `limit` are."""
    return 3 * limit + 5


def _inline(shape: GalleryShape, limit: int) -> Plan:
    """Everything is compared; what is farther than nearly all strangers need not be sorted and grouped."""
    share = max(_INLINE_SHARE, 4 * _listed(limit) / max(1, shape.faces))
    if shape.metric == "euclidean" or share > _MOST_LISTED:
        return Plan(SearchPath.ALL)
    strangers = -NormalDist().inv_cdf(share) / sqrt(shape.dimension)
    return Plan(SearchPath.ALL, max_distance=-min(strangers, shape.threshold))


def price(plan: Plan, shape: GalleryShape) -> float:
    """About how many microseconds the server takes for one probe, beside what every statement takes."""
    if plan.path is SearchPath.ALL:
        return shape.faces * _READ[SearchPath.ALL]
    read = shape.templates if plan.path is SearchPath.PEOPLE else shape.faces
    compared = plan.expected * (shape.faces / max(1, shape.templates) if plan.path is SearchPath.PEOPLE else 1.0)
    reading = read * (_READ[plan.path] + (_SORTED if plan.max_distance is None else 0.0))
    comparing = compared * (_COMPARED if plan.face_prefilter is None else _SIEVED)
    return _FIXED[plan.path] + reading + plan.expected * _RERANKED + comparing
