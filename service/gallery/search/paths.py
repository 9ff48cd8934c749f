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
from service.gallery.search.depth import Codes, distance_within_which, farthest, strangers_within, surely_within
from service.gallery.templates import CLOSE


class Path(Enum):
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

    path: Path
    depth: int = 0
    farthest: float | None = None
    expected: float = 0.0
    sieve: float | None = None
    farthest_alone: float | None = None


_FIXED = {Path.ALL: 0.0, Path.FACES: 150.0, Path.PEOPLE: 130.0}
_READ = {Path.ALL: 0.33, Path.FACES: 0.115, Path.PEOPLE: 0.085}
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
class Shape:
    """What the choice depends on."""

    faces: int
    templates: int
    threshold: float
    dimension: int
    metric: Metric
    has_codes: bool


def shape_of(gallery: Gallery) -> Shape:
    """The shape of a gallery as it was looked up."""
    space = gallery.space
    sizes = (gallery.faces, gallery.templates, gallery.threshold)
    return Shape(*sizes, space.dimension, space.metric, has_codes(space))


@lru_cache(maxsize=1024)
def choose(shape: Shape, limit: int, *, is_filtered: bool = False, mean_of: int = 1) -> Plan:
    """The cheapest plan for one probe and `limit` candidates."""
    if not shape.has_codes:
        return Plan(Path.CHOSEN) if is_filtered or mean_of > 1 else _inline(shape, limit)
    people = _coded(Path.PEOPLE, shape, shape.templates, limit)
    if is_filtered:
        return people if people.farthest is not None else Plan(Path.CHOSEN)
    if mean_of > 1:
        return replace(people, sieve=None)
    return min(plans(shape, limit), key=lambda plan: price(plan, shape))


def plans(shape: Shape, limit: int) -> list[Plan]:
    """Every way that a search without filter or mean may go where there are codes."""
    people = _coded(Path.PEOPLE, shape, shape.templates, limit)
    return [Plan(Path.ALL), people, _coded(Path.FACES, shape, shape.faces, limit)]


def exact(*, is_filtered: bool = False, mean_of: int = 1) -> Plan:
    """The plan that compares everything: what the others are measured by."""
    return Plan(Path.CHOSEN) if is_filtered or mean_of > 1 else Plan(Path.ALL)


def _coded(path: Path, shape: Shape, size: int, limit: int) -> Plan:
    codes = Codes(shape.dimension, FACE_BITS)
    if path is Path.PEOPLE:
        codes = Codes(shape.dimension, TEMPLATE_BITS, CLOSE)
    bound = farthest(codes, shape.threshold)
    if _listed(limit) > size * _MOST_LISTED:
        return Plan(path, size, expected=size)
    # In a small gallery a little farther than mates are: strangers fill the list, and a short one is asked for again.
    bound = max(bound, distance_within_which(codes, _listed(limit) / size))
    strangers = size * strangers_within(codes, bound)
    # So many may be nearer than the farthest mate, but for a few in 100,000 probes.
    depth = _LEAST_DEPTH + _SPREAD * (limit + ceil(strangers + 4 * sqrt(strangers)))
    if path is Path.FACES:
        return Plan(path, depth, bound, strangers)
    if shape.templates == shape.faces:
        return _of_lone_references(Plan(path, depth, bound), shape, limit)
    return Plan(path, depth, bound, strangers, _sieve(shape, strangers, limit))


def _of_lone_references(plan: Plan, shape: Shape, limit: int) -> Plan:
    """Where each template is a reference there is less room between mates and strangers to allow for."""
    codes = Codes(shape.dimension, TEMPLATE_BITS)
    listed = distance_within_which(codes, _listed(limit) / shape.templates)
    bound = max(farthest(codes, shape.threshold), listed)
    return replace(plan, farthest_alone=bound, expected=shape.templates * strangers_within(codes, bound))


def _sieve(shape: Shape, people: float, limit: int) -> int | None:
    """How near a face's own code has to be where so many people are expected; None where all may be compared."""
    codes = Codes(shape.dimension, FACE_BITS)
    bound = surely_within(codes, shape.threshold)
    left = people * shape.faces / max(1, shape.templates) * strangers_within(codes, bound)
    return bound if people >= _WORTH_A_SIEVE and left >= _listed(limit) else None


def _listed(limit: int) -> int:
    """How many strangers are to be expected within a bound, so that hardly ever fewer than `limit` are."""
    return 3 * limit + 5


def _inline(shape: Shape, limit: int) -> Plan:
    """Everything is compared; what is farther than nearly all strangers need not be sorted and grouped."""
    share = max(_INLINE_SHARE, 4 * _listed(limit) / max(1, shape.faces))
    if shape.metric == "euclidean" or share > _MOST_LISTED:
        return Plan(Path.ALL)
    strangers = -NormalDist().inv_cdf(share) / sqrt(shape.dimension)
    return Plan(Path.ALL, farthest=-min(strangers, shape.threshold))


def price(plan: Plan, shape: Shape) -> float:
    """About how many microseconds the server takes for one probe, beside what every statement takes."""
    if plan.path is Path.ALL:
        return shape.faces * _READ[Path.ALL]
    read = shape.templates if plan.path is Path.PEOPLE else shape.faces
    compared = plan.expected * (shape.faces / max(1, shape.templates) if plan.path is Path.PEOPLE else 1.0)
    reading = read * (_READ[plan.path] + (_SORTED if plan.farthest is None else 0.0))
    comparing = compared * (_COMPARED if plan.sieve is None else _SIEVED)
    return _FIXED[plan.path] + reading + plan.expected * _RERANKED + comparing
