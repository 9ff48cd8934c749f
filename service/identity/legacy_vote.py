"""Decision policy `legacy-vote`: the person with the most references that resemble the probe. Pure.

This is the rule of the legacy recognizer: each reference with a cosine above 0.3 to the probe is a vote for its label.
The most votes win; among equals, the label that comes first in the dataset. Without a vote there is no match.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.embedding import EmbeddingSpace
from service.gallery.votes import Votes, similarities

VOTING_COSINE = 0.3
Matrix = npt.NDArray[np.float64]


def voting_similarity(space: EmbeddingSpace) -> float:
    """Similarity above which a reference votes.

    The value 0.3 was chosen for cosines of ArcFace. In a space that measures distances (dlib, where strangers have
    cosines above 0.8) the threshold of the space replaces it.
    """
    return VOTING_COSINE if space.metric == "cosine" else space.threshold


def decide_by_votes(votes: Sequence[Votes]) -> Votes | None:
    """The person with the most votes; among equals, the one enrolled first. None without votes."""
    return min((one for one in votes if one.count > 0), key=lambda one: (-one.count, one.first), default=None)


def count_votes_in_memory(
    labels: Sequence[str], references: Matrix, probes: Matrix, space: EmbeddingSpace
) -> list[list[Votes]]:
    """For each probe the labels that have votes, in the order of their first appearance.

    `references` has shape (len(labels), dimension), `probes` (any number, dimension). Neither needs to be normalized.
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
