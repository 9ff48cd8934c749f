"""From candidates to a decision."""

import math

import pytest

from service.errors import InvalidRequest
from service.gallery.search.search import Candidate
from service.identity.decision import check_threshold, decide


def candidate(name: str, similarity: float) -> Candidate:
    return Candidate(name.lower(), name, None, similarity, "face")


ADA, BOB = candidate("Ada", 0.7), candidate("Bob", 0.4)


def test_the_best_candidate_at_or_above_the_threshold_is_the_match() -> None:
    assert decide([ADA, BOB], 0.5).match == ADA
    assert decide([ADA, BOB], 0.7).outcome == "match"
    assert decide([ADA, BOB], 0.0).match == ADA


def test_a_decision_below_the_threshold_lists_the_candidates_without_a_match() -> None:
    decision = decide([ADA, BOB], math.nextafter(0.7, 1))
    assert (decision.outcome, decision.match, decision.candidates) == ("no_match", None, (ADA, BOB))


def test_an_empty_gallery_matches_nobody() -> None:
    decision = decide([], 0.0)
    assert (decision.outcome, decision.match, decision.candidates) == ("no_match", None, ())


@pytest.mark.parametrize("threshold", [0.0, 1.0, 0.25])
def test_a_requested_threshold_replaces_the_default(threshold: float) -> None:
    assert check_threshold(threshold, 0.5) == threshold
    assert check_threshold(None, 0.5) == 0.5


@pytest.mark.parametrize("threshold", [-0.01, 1.01, math.nan, math.inf])
def test_a_threshold_outside_zero_to_one_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidRequest):
        check_threshold(threshold, 0.5)
