"""What an answer discloses to a key without the scope `probe`: less than rebuilds the references.

The similarity of a known embedding to a reference is a linear equation for the reference. With as many of them as the
reference has numbers, least squares give the reference. Three things keep the equations away: embeddings are no probes;
no similarity below the threshold is shown, so that only images of the person herself give any; and a similarity has two
digits. A threshold that the caller chooses would show the rest, by search: it may not be below the gallery's own, and
has two digits, too.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from service.errors import Forbidden
from service.gallery.search.search import Candidate
from service.identity.consistency import Consistency, InconsistentPerson
from service.identity.decision import Decision
from service.identity.recognize import Identification
from service.identity.verify import Verification

DIGITS = 2
SCOPE = "probe"
Shown = TypeVar("Shown", Candidate, Verification)


def check_disclosed_threshold(threshold: float | None, own: float) -> None:
    """Raises Forbidden for a threshold below the gallery's `own`, or with more than two digits."""
    if threshold is None or not math.isfinite(threshold):
        return
    if threshold < own:
        detail = f"a threshold below the gallery's own ({own:g}) needs a key with the scope {SCOPE!r}"
        raise Forbidden(detail, scope=SCOPE)
    if threshold not in (own, round(threshold, DIGITS)):
        raise Forbidden(f"a threshold of more than {DIGITS} digits needs a key with the scope {SCOPE!r}", scope=SCOPE)


def disclosed_decision(decision: Decision, threshold: float) -> Decision:
    """The decision with candidates at or above the threshold only, and similarities of two digits."""
    candidates = [rounded(each) for each in decision.candidates if each.similarity >= threshold]
    match = None if decision.match is None else rounded(decision.match)
    return Decision(decision.outcome, match, tuple(candidates))


def disclosed_identification(found: Identification) -> Identification:
    """The identification with the disclosed decision for each face."""
    faces = [replace(face, decision=disclosed_decision(face.decision, found.threshold)) for face in found.faces]
    return replace(found, faces=faces)


def disclosed_verification(verification: Verification) -> Verification:
    """The verification with a similarity of two digits, and without one below the threshold."""
    return rounded(verification) if verification.verified else replace(verification, similarity=None, reference=None)


def disclosed_consistency(found: Consistency) -> Consistency:
    """The findings without the similarities of unlike references, which are below the threshold; others rounded."""
    pairs = [replace(pair, similarity=round(pair.similarity, DIGITS)) for pair in found.look_alikes]
    return replace(found, look_alikes=pairs, inconsistent=_without_similarities(found.inconsistent))


def _without_similarities(people: Sequence[InconsistentPerson]) -> list[InconsistentPerson]:
    return [replace(one, unlike=[replace(face, similarity=None) for face in one.unlike]) for one in people]


def rounded(shown: Shown) -> Shown:
    """The same with a similarity of two digits."""
    if shown.similarity is None:
        return shown
    return replace(shown, similarity=round(shown.similarity, DIGITS))
