"""Evaluates an encoder on a folder of people: a closed test in a scratch gallery that is always removed.

The first image of each person is enrolled, and the others are probes. Then each person is once a stranger: removed from
the gallery, with the enrolled image as probe. In an image with several faces the largest counts.
"""

import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from service.access.operator import operator_transaction
from service.access.tenants import create_tenant, delete_tenant, list_tenants
from service.database.connection import Database
from service.database.session import tenant_session
from service.embedding import Embedding, EmbeddingSpace, shown_similarity
from service.encoder.encoders import Encoders
from service.errors import EmbeddingSpaceMismatch
from service.gallery.faces import NewFace, add_faces
from service.gallery.galleries import Gallery, create_gallery, find_gallery
from service.gallery.people import create_person, delete_person
from service.gallery.search.search import search
from service.identity.decision import Decision, check_threshold, decide
from service.identity.people_folders import find_portraits
from service.identity.portraits import EncodedPortraits, Failure, encode_portraits

SCRATCH_TENANT = re.compile(r"evaluation-scratch-[0-9a-f]{32}")
LEFTOVER_AGE = timedelta(days=1)
"""After this age an empty scratch tenant is left from a killed evaluation, and a later evaluation removes it."""

_GALLERY = "evaluation"


@dataclass(frozen=True)
class Mistake:
    """A wrong decision: the image, its person, the best candidate and its similarity."""

    image: str
    person: str
    candidate: str | None
    similarity: float | None


@dataclass(frozen=True)
class EvaluationReport:
    """Result of an evaluation. Rates are shares from 0 to 1, or None if there was nothing to measure. Images are named
    PERSON/FILE.

    `rank1_rate` is the share of probes whose best candidate is the right person. `fnir` is the share of probes that do
    not match the right person at `threshold` (listed in `missed`). `fpir` is the share of strangers that match somebody
    (listed in `false_accepts`). Images without a usable face stand in `failed_to_enroll` and count in no rate.
    """

    embedding_space: str
    people: int
    probes: int
    strangers: int
    rank1_rate: float | None
    fnir: float | None
    fpir: float | None
    threshold: float
    failed_to_enroll: list[Failure]
    missed: list[Mistake]
    false_accepts: list[Mistake]


@dataclass(frozen=True)
class _Trial:
    """A probe, its person, and the decision."""

    image: str
    person: str
    decision: Decision

    def mistake(self) -> Mistake:
        if not self.decision.candidates:
            return Mistake(self.image, self.person, None, None)
        best = self.decision.candidates[0]
        return Mistake(self.image, self.person, best.name, shown_similarity(best.similarity))


async def evaluate(
    database: Database,
    encoders: Encoders,
    folder: Path,
    space: EmbeddingSpace,
    *,
    threshold: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Evaluate an encoder on `folder`. `progress` is called with the encoded images and the total."""
    if space.is_external:
        raise EmbeddingSpaceMismatch(f"{space.name} has no encoder on this server that could be evaluated")
    threshold = check_threshold(threshold, space.threshold)
    people, failures = await encode_portraits(encoders, space, find_portraits(folder), progress)
    async with _scratch_session(database) as session:
        gallery, numbers = await _enroll_first(session, space, people)
        trials = await _probe_with_the_rest(session, gallery, people, threshold)
        strangers = await _probe_with_strangers(session, gallery, people, numbers, threshold)
    return _report(space, threshold, failures, trials, strangers)


async def _enroll_first(
    session: AsyncSession, space: EmbeddingSpace, people: Sequence[EncodedPortraits]
) -> tuple[Gallery, list[str]]:
    """A gallery with one reference per person, and the people's ids in the same order."""
    gallery = await create_gallery(session, _GALLERY, space)
    numbers: list[str] = []
    for person in people:
        made = await create_person(session, gallery, person.name)
        image, embedding = person.embeddings[0]
        await add_faces(session, gallery, made, [NewFace(embedding, image)])
        numbers.append(made.id)
    return await find_gallery(session, _GALLERY), numbers


async def _probe_with_the_rest(
    session: AsyncSession, gallery: Gallery, people: Sequence[EncodedPortraits], threshold: float
) -> list[_Trial]:
    return [
        _Trial(image, person.name, await _decide(session, gallery, embedding, threshold))
        for person in people
        for image, embedding in person.embeddings[1:]
    ]


async def _probe_with_strangers(
    session: AsyncSession, gallery: Gallery, people: Sequence[EncodedPortraits], ids: Sequence[str], threshold: float
) -> list[_Trial]:
    """Delete each person, search, and roll back."""
    trials: list[_Trial] = []
    for person, person_id in zip(people, ids, strict=True):
        image, embedding = person.embeddings[0]
        savepoint = await session.begin_nested()
        await delete_person(session, gallery, person_id)
        trials.append(_Trial(image, person.name, await _decide(session, gallery, embedding, threshold)))
        await savepoint.rollback()
    return trials


async def _decide(session: AsyncSession, gallery: Gallery, probe: Embedding, threshold: float) -> Decision:
    (candidates,) = await search(session, gallery, [probe], limit=1)
    return decide(candidates, threshold)


def _report(
    space: EmbeddingSpace,
    threshold: float,
    failures: list[Failure],
    trials: Sequence[_Trial],
    strangers: Sequence[_Trial],
) -> EvaluationReport:
    at_rank_one = [trial for trial in trials if trial.decision.candidates[0].name == trial.person]
    missed = [trial for trial in trials if not _is_right(trial)]
    accepted = [trial for trial in strangers if trial.decision.match is not None]
    return EvaluationReport(
        embedding_space=space.name,
        people=len(strangers),
        probes=len(trials),
        strangers=len(strangers),
        rank1_rate=_share(at_rank_one, trials),
        fnir=_share(missed, trials),
        fpir=_share(accepted, strangers),
        threshold=threshold,
        failed_to_enroll=failures,
        missed=[trial.mistake() for trial in missed],
        false_accepts=[trial.mistake() for trial in accepted],
    )


def _is_right(trial: _Trial) -> bool:
    return trial.decision.match is not None and trial.decision.match.name == trial.person


def _share(part: Sequence[_Trial], whole: Sequence[_Trial]) -> float | None:
    return len(part) / len(whole) if whole else None


@asynccontextmanager
async def _scratch_session(database: Database) -> AsyncIterator[AsyncSession]:
    """A session of a tenant of its own. Nothing in it is ever committed, so a crash leaves at most an empty tenant."""
    name = f"evaluation-scratch-{uuid.uuid4().hex}"
    async with operator_transaction(database.engine) as connection:
        tenant_id = await create_tenant(connection, name)
    try:
        async with tenant_session(database.engine, tenant_id) as session:
            yield session
    finally:
        await _remove_scratch(database, name)


async def _remove_scratch(database: Database, name: str) -> None:
    oldest = datetime.now(UTC) - LEFTOVER_AGE
    async with operator_transaction(database.engine) as connection:
        for tenant in await list_tenants(connection):
            is_left_over = SCRATCH_TENANT.fullmatch(tenant.name) and tenant.created_at < oldest
            if tenant.name == name or is_left_over:
                await delete_tenant(connection, tenant.name)
