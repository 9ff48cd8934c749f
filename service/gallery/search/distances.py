"""Bounds on the Hamming distance of codes, derived from geometry and checked by measurement.

For two unit vectors of cosine c, a random hyperplane separates them with probability p = arccos(c) / pi. Over `bits`
hyperplanes in orthogonal sets the share of separating ones is nearly normal about p, with
variance = p (1 - p) / bits - (1 - c^2) / (pi^2 max(bits, width)), width the next power of two.
`python -m benchmarks.hamming` measures the distributions and the misses that follow.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import acos, ceil, pi, sqrt
from statistics import NormalDist

MISSED_AT_THRESHOLD = 1e-4
"""Share of mates at the gallery's threshold that a bound may miss."""
LOW_COSINE = 0.35
MISSED_AT_LOW = 1e-3
"""Share of mates at LOW_COSINE that a bound may miss, even if the threshold is higher."""
MISSED_BY_PREFILTER = 5e-5
"""Share of mates at LOW_COSINE that the prefilter of faces may miss in addition. At the threshold it misses hardly one
in a million.
"""

_STANDARD = NormalDist()


@dataclass(frozen=True)
class CodeGeometry:
    """A kind of code: `bits` hyperplanes in `dimension` dimensions. `closeness` is the cosine of a reference to the
    coded vector.
    """

    dimension: int
    bits: int
    closeness: float = 1.0


@lru_cache(maxsize=1024)
def max_distance(codes: CodeGeometry, threshold: float) -> int:
    """Hamming distance that includes the mates at the threshold and at LOW_COSINE, except for the allowed misses."""
    at_threshold = _quantile(codes, threshold, MISSED_AT_THRESHOLD)
    return ceil(codes.bits * max(at_threshold, _quantile(codes, LOW_COSINE, MISSED_AT_LOW)))


@lru_cache(maxsize=1024)
def prefilter_distance(codes: CodeGeometry, threshold: float) -> int:
    """Hamming distance that includes nearly all mates at LOW_COSINE and above. For the second look at the faces of
    people found.
    """
    return ceil(codes.bits * _quantile(codes, min(threshold, LOW_COSINE), MISSED_BY_PREFILTER))


@lru_cache(maxsize=1024)
def share_of_strangers(codes: CodeGeometry, distance: int) -> float:
    """Share of unrelated people whose code lies within the distance, if embeddings were spread evenly."""
    return _STANDARD.cdf((distance / codes.bits - 0.5) / _deviation_of_strangers(codes))


@lru_cache(maxsize=1024)
def distance_for_share(codes: CodeGeometry, share: float) -> int:
    """Hamming distance within which that share of unrelated people lies."""
    return ceil(codes.bits * (0.5 + _STANDARD.inv_cdf(share) * _deviation_of_strangers(codes)))


def _deviation_of_strangers(codes: CodeGeometry) -> float:
    """Standard deviation for unrelated people: their cosines have a variance of 1 / dimension, and the codes add their
    own.
    """
    return sqrt(_variance(codes, 0.0) + 1.0 / (pi**2 * codes.dimension))


def _quantile(codes: CodeGeometry, cosine: float, missed: float) -> float:
    """Share of separating hyperplanes that only `missed` of the mates at that cosine to a reference exceed."""
    coded = cosine * codes.closeness
    variance = _variance(codes, coded)
    # Relative to the template, the part of the probe that lies beyond the coded vector is noise.
    beyond = (1.0 - cosine**2) * (1.0 - codes.closeness**2) / codes.dimension
    if coded < 1.0:
        variance += beyond / (pi**2 * (1.0 - coded**2))
    return acos(coded) / pi + _STANDARD.inv_cdf(1.0 - missed) * sqrt(variance)


def _variance(codes: CodeGeometry, cosine: float) -> float:
    """Variance of the share of hyperplanes that separate two vectors of exactly that cosine."""
    separated = acos(cosine) / pi
    width = 1 << (codes.dimension - 1).bit_length()  # the size of an orthogonal set, see codes.py
    orthogonal = (1.0 - cosine**2) / (pi**2 * max(codes.bits, width))
    return separated * (1.0 - separated) / codes.bits - orthogonal
