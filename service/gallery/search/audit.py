"""Audit of live searches: a sample of the probes is searched with the exact plan, too. Missed matches are counted and
logged.

Neither the metric nor the log line holds an embedding, a name or a similarity.
"""

import random
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import SEARCH_AUDIT_SHARE
from service.gallery.galleries import Gallery
from service.gallery.search.candidates import Candidate
from service.gallery.search.plans import SearchPath
from service.telemetry import SEARCH_AUDITED, SEARCH_MISSED, logger


def sample(session: AsyncSession, probes: int) -> list[int]:
    """Indexes of the probes to audit. Most often there are none."""
    share: float = session.get_bind().get_execution_options().get(SEARCH_AUDIT_SHARE, 0.0)
    if share <= 0.0:
        return []
    return [place for place in range(probes) if random.random() < share]  # noqa: S311 - a sample, not a secret


def report(
    gallery: Gallery, path: SearchPath, found: Sequence[Sequence[Candidate]], expected: Sequence[Sequence[Candidate]]
) -> None:
    """Count the audited probes, and the people at or above the threshold that the plan did not return."""
    SEARCH_AUDITED.labels(path.value).inc(len(found))
    missed = sum(
        candidate.similarity >= gallery.threshold and candidate.person_id not in {other.person_id for other in fast}
        for fast, exact in zip(found, expected, strict=True)
        for candidate in exact
    )
    if missed:
        SEARCH_MISSED.labels(path.value).inc(missed)
        logger("gallery").warning(
            "search audit: matches missed",
            path=path.value,
            missed=missed,
            probes=len(found),
            gallery=gallery.id,
            faces=gallery.faces,
            templates=gallery.templates,
        )
