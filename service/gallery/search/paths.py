"""Which way a search goes: decided by how much the gallery holds and by its embedding space, never by the planner.

Every way gives the same people. The prices are microseconds on one core, measured by `python -m benchmarks.paths`;
they need to be right to a factor of two, since near the crossings both ways cost the same.
"""

from dataclasses import dataclass
from enum import Enum
from math import ceil, sqrt
from statistics import NormalDist

from service.gallery.codes import FACE_BITS, TEMPLATE_BITS, has_codes
from service.gallery.galleries import Gallery
from service.gallery.search.depth import Codes, farthest, strangers_within
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
    None leaves nothing out. `depth` is the most that is compared exactly after that.
    """

    path: Path
    depth: int = 0
    farthest: float | None = None


_MICROSECONDS_A_FACE = {Path.ALL: 0.34, Path.FACES: 0.14}
_MICROSECONDS_A_TEMPLATE = 0.075
_MICROSECONDS_UNBOUNDED = 0.05  # sorting, for everything that no bound leaves out
_MICROSECONDS_A_PERSON_RERANKED = 1.5
_MICROSECONDS_A_FACE_RERANKED = 0.5
_ENOUGH = 40
"""A bound is worth it, and safe for the length of the list, where so many strangers are expected within it."""
_LEAST_DEPTH = 32
_SPREAD = 4
"""Embeddings of less variety than isotropic ones crowd together: they are given so many times the depth."""
_INLINE_SHARE = 0.01


def choose(gallery: Gallery, limit: int, *, is_filtered: bool = False, mean_of: int = 1) -> Plan:
    """The cheapest plan for one probe and `limit` candidates."""
    if not has_codes(gallery.space):
        return Plan(Path.CHOSEN) if is_filtered or mean_of > 1 else _inline(gallery, limit)
    people = _coded(Path.PEOPLE, gallery, gallery.templates, limit)
    if is_filtered:
        return people if people.farthest is not None else Plan(Path.CHOSEN)
    if mean_of > 1:
        return people
    return min(plans(gallery, limit), key=lambda plan: price(plan, gallery))


def plans(gallery: Gallery, limit: int) -> list[Plan]:
    """Every way that a search without filter or mean may go where there are codes."""
    people = _coded(Path.PEOPLE, gallery, gallery.templates, limit)
    return [Plan(Path.ALL), people, _coded(Path.FACES, gallery, gallery.faces, limit)]


def exact(*, is_filtered: bool = False, mean_of: int = 1) -> Plan:
    """The plan that compares everything: what the others are measured by."""
    return Plan(Path.CHOSEN) if is_filtered or mean_of > 1 else Plan(Path.ALL)


def _coded(path: Path, gallery: Gallery, size: int, limit: int) -> Plan:
    codes = Codes(gallery.space.dimension, FACE_BITS)
    if path is Path.PEOPLE:
        codes = Codes(gallery.space.dimension, TEMPLATE_BITS, CLOSE)
    bound = farthest(codes, gallery.threshold)
    strangers = size * strangers_within(codes, bound)
    depth = _LEAST_DEPTH + _SPREAD * (limit + ceil(strangers + sqrt(strangers)))
    return Plan(path, depth, bound if strangers >= max(_ENOUGH, 4 * limit) else None)


def _inline(gallery: Gallery, limit: int) -> Plan:
    """Everything is compared; what is farther than nearly all strangers need not be sorted and grouped."""
    share = max(_INLINE_SHARE, 4 * max(limit, _ENOUGH) / max(1, gallery.faces))
    if gallery.space.metric == "euclidean" or share > 0.5:
        return Plan(Path.ALL)
    strangers = -NormalDist().inv_cdf(share) / sqrt(gallery.space.dimension)
    return Plan(Path.ALL, farthest=-min(strangers, gallery.threshold))


def price(plan: Plan, gallery: Gallery) -> float:
    """About how many microseconds the server takes for one probe, beside what every statement takes."""
    if plan.path is Path.ALL:
        return gallery.faces * _MICROSECONDS_A_FACE[Path.ALL]
    read = gallery.templates if plan.path is Path.PEOPLE else gallery.faces
    price = _MICROSECONDS_A_TEMPLATE if plan.path is Path.PEOPLE else _MICROSECONDS_A_FACE[Path.FACES]
    if plan.farthest is None:
        price += _MICROSECONDS_UNBOUNDED
    compared = min(plan.depth / (_SPREAD if plan.farthest is not None else 1), read)
    faces = compared * gallery.faces / max(1, gallery.templates) if plan.path is Path.PEOPLE else compared
    return read * price + compared * _MICROSECONDS_A_PERSON_RERANKED + faces * _MICROSECONDS_A_FACE_RERANKED
