"""The result of a search: people with the similarity of their nearest reference."""

from collections.abc import Iterable
from dataclasses import dataclass

from service.database.identifiers import to_text
from service.embedding import Metric, similarity_from


@dataclass(frozen=True)
class Candidate:
    """A person and the similarity (0 to 1) of the person's best reference to the probe."""

    person_id: str
    name: str
    external_id: str | None
    similarity: float
    face_id: str
    gallery: str | None = None
    """Name of the person's gallery; set by recognition over several galleries, else None."""


Row = tuple[int, int, str, str | None, int, float]
"""Ordinal of the probe (from 1), person, name, external id, face, and the distance that the metric's operator measured.
"""


def candidates_of(rows: Iterable[Row], probes: int, metric: Metric) -> list[list[Candidate]]:
    """The candidates of each probe, in the order of the rows."""
    found: list[list[Candidate]] = [[] for _ in range(probes)]
    for ordinal, person, name, external_id, face, measured in rows:
        similarity = similarity_from(metric, measured if metric == "euclidean" else -measured)
        found[ordinal - 1].append(Candidate(to_text(person), name, external_id, similarity, to_text(face)))
    return found
