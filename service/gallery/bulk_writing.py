"""Bulk writing of references, in batches of bounded size. A person is found by external id or name, or made."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.database.binary import big_integers
from service.database.identifiers import new_identifier
from service.database.locks import LOAD_LOCK
from service.database.statements import fetch_rows_in_transaction
from service.errors import NotFound
from service.gallery.content import check_metadata, check_name
from service.gallery.galleries import PERSON_BYTES, Gallery, SizeChange, record_change
from service.gallery.people import lock_people
from service.gallery.references import known_originals
from service.gallery.writing import PreparedFace, prepare_face, store_faces


@dataclass(frozen=True)
class ReferenceRow:
    """One reference to write, and the person that it belongs to."""

    name: str
    external_id: str | None
    values: Sequence[float] | npt.NDArray[np.floating]
    source: Any | None = None
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True)
class BulkResult:
    """Numbers of people made, of faces added, and of rows that were passed over because the person has them."""

    people: int
    faces: int
    duplicates: int = 0


PersonKey = tuple[str | None, str]
"""The key by which a row finds its person: an external id, or None and a name."""


class KnownPersonRow(NamedTuple):
    """A row of `SELECT_PEOPLE_BY_KEY`."""

    number: int
    name: str
    external_id: str | None


# One index lookup per person, held in place by OFFSET 0. With `name = ANY (...)` the planner, which has no statistics
# of names, reads the whole gallery for every batch: half a million people took 9 minutes that way, and a million take
# less than 5 minutes now. The statement is never prepared: a plan made while the table was empty would read the whole
# gallery, too.
#
# The statement says -gallery_id, because the unique indexes of names and external ids hold -gallery_id. With
# gallery_id the planner may take the primary key, which has the same first two columns, and read the whole gallery for
# each person: docs/decisions/0015-indexes-that-a-statement-names.md shows that plan. SQLAlchemy statements call
# `tables.by_name_index` for the same spelling.
SELECT_PEOPLE_BY_KEY = """
    SELECT person.id, person.name, person.external_id
    FROM unnest(CAST(%(external_ids)s AS text[])) AS wanted (external_id) CROSS JOIN LATERAL (
        SELECT id, name, external_id FROM person
        WHERE tenant_id = %(tenant)s AND -gallery_id = -CAST(%(gallery)s AS integer)
            AND external_id = wanted.external_id OFFSET 0
    ) AS person
    UNION ALL
    SELECT person.id, person.name, person.external_id
    FROM unnest(CAST(%(names)s AS text[])) AS wanted (name) CROSS JOIN LATERAL (
        SELECT id, name, external_id FROM person
        WHERE tenant_id = %(tenant)s AND -gallery_id = -CAST(%(gallery)s AS integer)
            AND name = wanted.name AND external_id IS NULL OFFSET 0
    ) AS person
"""
_INSERT_PEOPLE = text(f"""
    INSERT INTO person (tenant_id, gallery_id, id, name, external_id, metadata)
    SELECT :tenant, :gallery, id, name, external_id, CAST(metadata AS jsonb)
    FROM unnest(
        CAST(:ids AS bigint[]), CAST(:names AS text[]), CAST(:external_ids AS text[]), CAST(:metadata AS text[])
    ) AS given (id, name, external_id, metadata)
    ORDER BY external_id, name
    ON CONFLICT DO NOTHING
    RETURNING id, name, external_id, {PERSON_BYTES} AS bytes
""")  # noqa: S608 - a piece of this room only


_LOCK_LOADS = text("SELECT pg_advisory_xact_lock(:lock, :gallery)")


async def begin_load(session: AsyncSession, gallery: Gallery) -> None:
    """Wait until no other bulk load into the gallery runs. Two at a time could deadlock on each other's people."""
    await session.execute(_LOCK_LOADS, {"lock": LOAD_LOCK, "gallery": gallery.id})


async def add_references(
    session: AsyncSession, gallery: Gallery, rows: Sequence[ReferenceRow], *, skips_duplicates: bool = False
) -> BulkResult:
    """Add one batch. The whole batch is checked before any row is written. Names are compared in their canonical form.
    Metadata is stored only for people that the batch makes. `skips_duplicates` passes over a row if its person has a
    reference of exactly the same numbers.
    """
    faces = [prepare_face(row.values, gallery.space, row.source) for row in rows]
    rows = [_named_canonically(row) for row in rows]
    wanted = _first_rows(rows)
    if not faces:
        return BulkResult(0, 0)
    # Insert first, look up only the people that exist already: a load of new people needs no lookup.
    made = await _make_people(session, gallery, list(wanted.values()))
    known = await _find_people(session, gallery, {key: row for key, row in wanted.items() if key not in made})
    await _lock(session, gallery, set(known.values()))
    numbers = known | made
    people = [numbers[_key(row)] for row in rows]
    kept: Sequence[int] = range(len(rows))
    if skips_duplicates:
        kept = await _new_rows(session, gallery, set(known.values()), people, faces)
    if kept:
        new_people = frozenset(made.values())
        await store_faces(session, gallery, [people[row] for row in kept], [faces[row] for row in kept], new_people)
    return BulkResult(len(made), len(kept), len(rows) - len(kept))


async def _new_rows(
    session: AsyncSession, gallery: Gallery, found: set[int], people: Sequence[int], faces: Sequence[PreparedFace]
) -> list[int]:
    """Positions of the rows whose numbers the person does not have: neither stored nor in an earlier row."""
    pairs = [(person, face.original) for person, face in zip(people, faces, strict=True)]
    seen = await known_originals(session, gallery, [pair for pair in pairs if pair[0] in found])
    kept = []
    for row, pair in enumerate(pairs):
        if pair not in seen:
            seen.add(pair)
            kept.append(row)
    return kept


async def finish_load(engine: AsyncEngine) -> None:
    """Vacuum and analyze the searched tables, so that searches read the index alone.

    Needs PostgreSQL 17, where the service role may vacuum. On older versions autovacuum does it a little later.
    """
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM (ANALYZE, SKIP_LOCKED) face, face_detail, person, person_template"))


def _key(row: ReferenceRow | KnownPersonRow) -> PersonKey:
    return (None, row.name) if row.external_id is None else (row.external_id, "")


def _named_canonically(row: ReferenceRow) -> ReferenceRow:
    """The row with the canonical forms of its names. Raises InvalidRequest if a name is not allowed."""
    name = check_name(row.name)
    external_id = None if row.external_id is None else check_name(row.external_id, "external_id")
    if (name, external_id) == (row.name, row.external_id):
        return row
    return replace(row, name=name, external_id=external_id)


def _first_rows(rows: Sequence[ReferenceRow]) -> dict[PersonKey, ReferenceRow]:
    """The first row of each person, checked."""
    first: dict[PersonKey, ReferenceRow] = {}
    for row in rows:
        if _key(row) not in first:
            check_metadata({} if row.metadata is None else row.metadata)
            first[_key(row)] = row
    return first


async def _find_people(
    session: AsyncSession, gallery: Gallery, wanted: dict[PersonKey, ReferenceRow]
) -> dict[PersonKey, int]:
    if not wanted:
        return {}
    values = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "external_ids": [external_id for external_id, _ in wanted if external_id is not None],
        "names": [name for external_id, name in wanted if external_id is None],
    }
    rows = await fetch_rows_in_transaction(session, SELECT_PEOPLE_BY_KEY, values, prepare=False)
    return _by_key(map(KnownPersonRow._make, rows))


async def _make_people(session: AsyncSession, gallery: Gallery, rows: Sequence[ReferenceRow]) -> dict[PersonKey, int]:
    if not rows:
        return {}
    values = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "ids": big_integers([new_identifier() for _ in rows]),
        "names": [row.name for row in rows],
        "external_ids": [row.external_id for row in rows],
        "metadata": [json.dumps({} if row.metadata is None else row.metadata) for row in rows],
    }
    made = (await session.execute(_INSERT_PEOPLE, values)).all()
    await record_change(session, gallery.id, SizeChange(people=len(made), bytes=sum(row.bytes for row in made)))
    return _by_key(KnownPersonRow(row.id, row.name, row.external_id) for row in made)


def _by_key(rows: Iterable[KnownPersonRow]) -> dict[PersonKey, int]:
    return {_key(row): row.number for row in rows}


async def _lock(session: AsyncSession, gallery: Gallery, numbers: set[int]) -> None:
    if numbers - await lock_people(session, gallery, sorted(numbers)):
        raise NotFound("a person was deleted during the load")
