"""Decision policy `legacy-vote`: the person most of whose references resemble the probe. Pure.

The rule of the legacy recognizer: every reference whose cosine with the probe is above 0.3 is a vote for its label;
most votes win, of equals the label that came first in the dataset, and without a vote it is nobody.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.embedding import EmbeddingSpace
from service.gallery.votes import Votes, similarities

POLICY = "legacy-vote"
VOTING_COSINE = 0.3
Matrix = npt.NDArray[np.float64]


def voting_similarity(space: EmbeddingSpace) -> float:
    """The similarity above which a reference votes.

    0.3 was chosen for cosines of ArcFace. Where a space measures distances (dlib: cosines of strangers lie above 0.8
    there) a vote is what the space itself counts as the same person.
    """
    return VOTING_COSINE if space.metric == "cosine" else space.threshold


def decide_by_votes(votes: Sequence[Votes]) -> Votes | None:
    """The person with the most votes, of equals the one enrolled first; None where nobody has a vote."""
    return min((one for one in votes if one.count > 0), key=lambda one: (-one.count, one.first), default=None)


def count_votes_in_memory(
    labels: Sequence[str], references: Matrix, probes: Matrix, space: EmbeddingSpace
) -> list[list[Votes]]:
    """For each probe the labels that have votes, in the order in which they first appear.

    `references` has shape (len(labels), dimension), `probes` (any number, dimension); neither need be normalized.
    """
    first = {label: position for position, label in reversed(list(enumerate(labels)))}
    order = sorted(first, key=first.__getitem__)
    numbers = {label: number for number, label in enumerate(order)}
    of_row = np.array([numbers[label] for label in labels], dtype=np.intp)
    voted = similarities(references, probes, space) > voting_similarity(space)
    counts = [np.bincount(of_row[row], minlength=len(order)) for row in voted]
    return [
        [Votes(order[number], int(count[number]), first[order[number]]) for number in np.flatnonzero(count)]
        for count in counts
    ]
