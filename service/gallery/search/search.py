"""Searches a gallery: choose the plan, run its statement, complete short lists, and audit a sample of the probes."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.binary import bit_string, bit_strings, half_vector, half_vector_type, half_vectors
from service.database.connection import SEARCH_AUDIT_SHARE
from service.database.identifiers import to_text
from service.database.statements import fetch_rows
from service.database.values import BinaryValue
from service.embedding import Embedding, EmbeddingSpace, Metric, check_embedding, similarity_from
from service.errors import EmbeddingSpaceMismatch, InvalidRequest
from service.gallery.codes import face_codes, has_codes, template_codes
from service.gallery.content import check_metadata
from service.gallery.galleries import Gallery
from service.gallery.people import Person
from service.gallery.search.plans import Plan, SearchPath, choose, exact, plan_inputs
from service.gallery.search.statements import CandidateRow, StatementShape, statement, statement_of_one_person
from service.gallery.search.turns import probes_per_slice, slice_turn
from service.gallery.writing import comparable
from service.telemetry import SEARCH_AUDITED, SEARCH_MISSED, logger

MAXIMUM_PROBES = 1000
MAXIMUM_CANDIDATES = 1000
_NO_CODES = np.empty((0, 0), dtype=np.uint8)
_Matrix = npt.NDArray[np.float32]


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


async def search(
    session: AsyncSession,
    gallery: Gallery,
    probes: Sequence[Embedding],
    limit: int = 5,
    *,
    metadata: Mapping[str, Any] | None = None,
    mean_of: int = 1,
) -> list[list[Candidate]]:
    """For each probe the `limit` nearest people, most similar first. Many probes take one statement for each slice.

    `metadata` keeps only people whose metadata contains this object (PostgreSQL's `@>`). With `mean_of` a person's
    similarity is the mean of that many nearest references, or of all references if there are fewer.
    """
    _check(len(probes), limit, mean_of)
    wanted = None if metadata is None else check_metadata(dict(metadata))
    if not probes:
        return []
    matrix = _matrix(probes, gallery.space)
    running = _Search(session, gallery, limit, wanted, mean_of)
    inputs = plan_inputs(gallery)
    plan = choose(inputs, limit, is_filtered=wanted is not None, mean_of=mean_of)
    size = probes_per_slice(plan, inputs)
    if len(matrix) <= size:
        return await running.find(matrix, plan)
    results = []
    for start in range(0, len(matrix), size):
        async with slice_turn(session):
            results += await running.find(matrix[start : start + size], plan)
    return results


async def search_by(
    session: AsyncSession, gallery: Gallery, plan: Plan, probes: Sequence[Embedding], limit: int = 5
) -> list[list[Candidate]]:
    """Search with the given plan. For tests and measurements that compare plans."""
    matrix = _matrix(probes, gallery.space)
    return await _Search(session, gallery, limit, None, 1).ask(matrix, plan)


async def search_galleries(
    session: AsyncSession,
    galleries: Sequence[Gallery],
    probes: Sequence[Embedding],
    limit: int = 5,
    *,
    metadata: Mapping[str, Any] | None = None,
    mean_of: int = 1,
) -> list[list[tuple[Gallery, Candidate]]]:
    """The same over several galleries of one embedding space, merged: the `limit` nearest people of them all."""
    if len({gallery.space.digest for gallery in galleries}) > 1:
        names = ", ".join(sorted({gallery.space.name for gallery in galleries}))
        raise EmbeddingSpaceMismatch(f"the galleries have different embedding spaces: {names}")
    merged: list[list[tuple[Gallery, Candidate]]] = [[] for _ in probes]
    for gallery in galleries:
        results = await search(session, gallery, probes, limit, metadata=metadata, mean_of=mean_of)
        for index, candidates in enumerate(results):
            merged[index] += [(gallery, candidate) for candidate in candidates]
    return [sorted(pairs, key=lambda pair: -pair[1].similarity)[:limit] for pairs in merged]


async def best_reference(session: AsyncSession, gallery: Gallery, person: Person, probe: Embedding) -> Candidate | None:
    """The person's reference nearest to the probe, or None if the person has no reference."""
    vector = comparable(check_embedding(probe, gallery.space), gallery.space)
    values = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "person": person.number,
        "vectors": half_vector(vector),
    }
    metric = gallery.space.metric
    rows = await fetch_rows(session, statement_of_one_person(metric), values)
    return next(iter(candidates_of(map(CandidateRow._make, rows), 1, metric)[0]), None)


def form_of(
    plan: Plan, space: EmbeddingSpace, *, is_filtered: bool, mean_of: int, has_many_probes: bool
) -> StatementShape:
    """The form of the statement that runs the plan."""
    return StatementShape(
        path=plan.path,
        metric=space.metric,
        is_coded=has_codes(space),
        is_bounded=plan.max_distance is not None,
        is_prefiltered=plan.face_prefilter is not None,
        is_single_reference=plan.max_distance_single_reference is not None,
        is_filtered=is_filtered,
        has_many_probes=has_many_probes,
        is_mean=mean_of > 1,
    )


def candidates_of(rows: Iterable[CandidateRow], probes: int, metric: Metric) -> list[list[Candidate]]:
    """The candidates of each probe, in the order of the rows."""
    results: list[list[Candidate]] = [[] for _ in range(probes)]
    for row in rows:
        similarity = similarity_from(metric, row.measured if metric == "euclidean" else -row.measured)
        candidate = Candidate(to_text(row.person_id), row.name, row.external_id, similarity, to_text(row.face_id))
        results[row.ordinal - 1].append(candidate)
    return results


class _Search:
    """One call of `search`: its arguments, and the steps that every plan takes."""

    def __init__(
        self, session: AsyncSession, gallery: Gallery, limit: int, metadata: dict[str, Any] | None, mean_of: int
    ) -> None:
        self._session = session
        self._gallery = gallery
        self._limit = limit
        self._metadata = metadata
        self._mean_of = mean_of

    async def find(self, matrix: _Matrix, plan: Plan) -> list[list[Candidate]]:
        """The candidates of each probe, by `plan`, completed and audited."""
        results = await self.ask(matrix, plan)
        await self.complete(matrix, plan, results)
        await self.audit(matrix, plan, results)
        return results

    async def ask(self, matrix: _Matrix, plan: Plan) -> list[list[Candidate]]:
        """The candidates of each probe, by `plan`."""
        space = self._gallery.space
        is_filtered, has_many_probes = self._metadata is not None, len(matrix) > 1
        form = form_of(plan, space, is_filtered=is_filtered, mean_of=self._mean_of, has_many_probes=has_many_probes)
        rows = await fetch_rows(self._session, statement(form), await self._parameters(matrix, plan))
        return candidates_of(map(CandidateRow._make, rows), len(matrix), space.metric)

    async def complete(self, matrix: _Matrix, plan: Plan, results: list[list[Candidate]]) -> None:
        """Search again with the exact plan for every probe that got fewer than `limit` candidates.

        A bound on the distance, or a person with very many references, can leave a list short.
        """
        if plan.path.is_exact and plan.max_distance is None:
            return
        enough = min(self._limit, self._gallery.people)
        short = [index for index, candidates in enumerate(results) if len(candidates) < enough]
        if short:
            for index, candidates in zip(short, await self.ask(matrix[short], self._exact), strict=True):
                results[index] = candidates

    async def audit(self, matrix: _Matrix, plan: Plan, results: list[list[Candidate]]) -> None:
        """Search a sample of the probes with the exact plan, too, and report the missed matches."""
        if plan.path.is_exact:
            return
        indexes = _sample(self._session, len(matrix))
        if indexes:
            expected = await self.ask(matrix[indexes], self._exact)
            _report_audit(self._gallery, plan.path, [results[index] for index in indexes], expected)

    @property
    def _exact(self) -> Plan:
        return exact(is_filtered=self._metadata is not None, mean_of=self._mean_of)

    async def _parameters(self, matrix: _Matrix, plan: Plan) -> dict[str, Any]:
        of_people = template_codes(matrix) if plan.path is SearchPath.PEOPLE else _NO_CODES
        of_faces = face_codes(matrix) if plan.path is SearchPath.FACES or plan.face_prefilter is not None else _NO_CODES
        codes: list[BinaryValue | None]
        if len(matrix) > 1:
            vectors = half_vectors(matrix, await half_vector_type(self._session))
            codes = [bit_strings(of_people), bit_strings(of_faces)]
        else:
            vectors = half_vector(matrix[0])
            codes = [bit_string(of[0]) if len(of) else None for of in (of_people, of_faces)]
        return {
            "vectors": vectors,
            "codes": codes[0],
            "face_codes": codes[1],
            "tenant": self._gallery.tenant_id,
            "gallery": self._gallery.id,
            "limit": self._limit,
            "rerank_limit": plan.rerank_limit,
            "max_distance": _optional(plan.max_distance),
            "max_distance_single_reference": _optional(plan.max_distance_single_reference),
            "face_prefilter": _optional(plan.face_prefilter),
            "metadata": None if self._metadata is None else json.dumps(self._metadata),
            "mean_of": self._mean_of,
        }


def _sample(session: AsyncSession, probes: int) -> list[int]:
    """Indexes of the probes to audit. Most often there are none."""
    share: float = session.get_bind().get_execution_options().get(SEARCH_AUDIT_SHARE, 0.0)
    if share <= 0.0:
        return []
    return [index for index in range(probes) if random.random() < share]  # noqa: S311 - a sample, not a secret


def _report_audit(
    gallery: Gallery, path: SearchPath, results: Sequence[Sequence[Candidate]], expected: Sequence[Sequence[Candidate]]
) -> None:
    """Count the audited probes, and the people at or above the threshold that the plan did not return.

    Neither the metric nor the log line holds an embedding, a name or a similarity.
    """
    SEARCH_AUDITED.labels(path.value).inc(len(results))
    missed = sum(
        candidate.similarity >= gallery.threshold and candidate.person_id not in {other.person_id for other in fast}
        for fast, exact_candidates in zip(results, expected, strict=True)
        for candidate in exact_candidates
    )
    if missed:
        SEARCH_MISSED.labels(path.value).inc(missed)
        logger("gallery").warning(
            "search audit: matches missed",
            path=path.value,
            missed=missed,
            probes=len(results),
            gallery=gallery.id,
            faces=gallery.faces,
            templates=gallery.templates,
        )


def _matrix(probes: Sequence[Embedding], space: EmbeddingSpace) -> _Matrix:
    """The checked probes in the form that is compared, shape (count, dimension).

    A float32 array of usual length takes a short way: one product instead of three passes.
    """
    rows = []
    for probe in probes:
        is_plain = isinstance(probe, np.ndarray) and probe.dtype == np.float32 and probe.shape == (space.dimension,)
        square = float(np.dot(probe, probe)) if is_plain and space.metric == "cosine" else 0.0
        if 1e-6 < square < 1e6:  # finite, not zero, and no precision lost in the square
            rows.append(probe * np.float32(1.0 / sqrt(square)))
        else:
            rows.append(comparable(check_embedding(probe, space), space))
    return np.stack(rows) if len(rows) > 1 else rows[0][np.newaxis]


def _optional(number: float | None) -> float | None:
    return None if number is None else float(number)


def _check(probes: int, limit: int, mean_of: int) -> None:
    if probes > MAXIMUM_PROBES:
        raise InvalidRequest(f"probes: {probes}, at most {MAXIMUM_PROBES} are allowed")
    if not 1 <= limit <= MAXIMUM_CANDIDATES:
        raise InvalidRequest(f"limit: must be from 1 to {MAXIMUM_CANDIDATES}")
    if mean_of < 1:
        raise InvalidRequest("mean_of: must be at least 1")
