"""Decides from candidates. Pure: no database, no model, no settings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.errors import InvalidRequest
from service.gallery.search.search import Candidate


@dataclass(frozen=True)
class Decision:
    """A decision. `match` is the best candidate if it reaches the threshold, else None."""

    outcome: Literal["match", "no_match"]
    match: Candidate | None
    candidates: tuple[Candidate, ...]


def decide(candidates: Sequence[Candidate], threshold: float) -> Decision:
    """Decide among candidates, best first. A similarity equal to the threshold is a match."""
    best = candidates[0] if candidates else None
    if best is None or best.similarity < threshold:
        return Decision("no_match", None, tuple(candidates))
    return Decision("match", best, tuple(candidates))


def check_threshold(threshold: float | None, default: float) -> float:
    """The given threshold, or the default. Raises InvalidRequest outside 0 to 1."""
    if threshold is None:
        return default
    if not (math.isfinite(threshold) and 0.0 <= threshold <= 1.0):
        raise InvalidRequest("threshold: must be a similarity from 0 to 1")
    return threshold
