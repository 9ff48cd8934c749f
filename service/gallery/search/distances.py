"""How far a code may be from the probe's before its face is left out: derived from geometry, checked by measurement.

For two unit vectors of cosine c, a random hyperplane separates them with probability p = arccos(c) / pi. Over `bits`
hyperplanes in orthogonal sets the share that does is nearly normal about p, with
    variance = p (1 - p) / bits - (1 - c^2) / (pi^2 max(bits, width)), width the next power of two.
`python -m benchmarks.hamming` measures the same distributions and the misses that follow.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import acos, ceil, pi, sqrt
from statistics import NormalDist

MISSED_AT_THRESHOLD = 1e-4
"""The share of mates at the gallery's threshold that may be left out."""
FAINT_COSINE = 0.35
MISSED_AT_FAINT = 1e-3
"""Below the threshold too, down to this cosine, hardly a mate is left out."""
MISSED_IN_A_SECOND_LOOK = 5e-5
"""Of mates at FAINT_COSINE, beside those that the first look misses; at the threshold hardly one in a million."""

_STANDARD = NormalDist()


@dataclass(frozen=True)
class CodeGeometry:
    """What a code tells: `bits` hyperplanes in `dimension`; `closeness`: cosine of a reference to what was coded."""

    dimension: int
    bits: int
    closeness: float = 1.0


@lru_cache(maxsize=1024)
def max_distance(codes: CodeGeometry, threshold: float) -> int:
    """The Hamming distance within which mates are found: at the threshold, and at FAINT_COSINE."""
    at_threshold = _quantile(codes, threshold, MISSED_AT_THRESHOLD)
    return ceil(codes.bits * max(at_threshold, _quantile(codes, FAINT_COSINE, MISSED_AT_FAINT)))


@lru_cache(maxsize=1024)
def surely_within(codes: CodeGeometry, threshold: float) -> int:
    """The distance beyond which next to no mate is, at FAINT_COSINE and above: for a second look at the same people."""
    return ceil(codes.bits * _quantile(codes, min(threshold, FAINT_COSINE), MISSED_IN_A_SECOND_LOOK))


@lru_cache(maxsize=1024)
def strangers_within(codes: CodeGeometry, distance: int) -> float:
    """The share of unrelated people whose code is that near, were embeddings spread evenly in all dimensions."""
    return _STANDARD.cdf((distance / codes.bits - 0.5) / _spread_of_strangers(codes))


@lru_cache(maxsize=1024)
def distance_within_which(codes: CodeGeometry, share: float) -> int:
    """The distance within which that share of unrelated people is."""
    return ceil(codes.bits * (0.5 + _STANDARD.inv_cdf(share) * _spread_of_strangers(codes)))


def _spread_of_strangers(codes: CodeGeometry) -> float:
    """Their cosines have a variance of 1 / dimension, and codes add their own."""
    return sqrt(_variance(codes, 0.0) + 1.0 / (pi**2 * codes.dimension))


def _quantile(codes: CodeGeometry, cosine: float, missed: float) -> float:
    """The share of separating hyperplanes that only `missed` of the mates at that cosine to a reference exceed."""
    coded = cosine * codes.closeness
    variance = _variance(codes, coded)
    # What the probe shares with the reference beyond the coded template is noise, seen from the template.
    beyond = (1.0 - cosine**2) * (1.0 - codes.closeness**2) / codes.dimension
    if coded < 1.0:
        variance += beyond / (pi**2 * (1.0 - coded**2))
    return acos(coded) / pi + _STANDARD.inv_cdf(1.0 - missed) * sqrt(variance)


def _variance(codes: CodeGeometry, cosine: float) -> float:
    """Of the share of hyperplanes that separate two vectors of exactly that cosine."""
    separated = acos(cosine) / pi
    width = 1 << (codes.dimension - 1).bit_length()  # orthogonal in so many dimensions, see codes.py
    orthogonal = (1.0 - cosine**2) / (pi**2 * max(codes.bits, width))
    return separated * (1.0 - separated) / codes.bits - orthogonal
