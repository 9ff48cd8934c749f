"""Bulk writing of references, in batches of bounded size. A person is found by external id or name, or made."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
from service.gallery.writing import prepare_face, store_faces


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
    """Numbers of people made and faces added."""

    people: int
    faces: int


PersonKey = tuple[str | None, str]
"""The key by which a row finds its person: an external id, or None and a name."""

# One index lookup per person, held in place by OFFSET 0. With `name = ANY (...)` the planner, which has no statistics
# of names, reads the whole gallery for every batch: half a million people took 9 minutes that way, and a million take
# less than 5 minutes now. The statement is never prepared: a plan made while the table was empty would read the whole
# gallery, too. `-gallery_id` selects the name indexes, see tables.py.
FIND_PEOPLE = """
    SELECT person.* FROM unnest(CAST(%(external_ids)s AS text[])) AS wanted (external_id) CROSS JOIN LATERAL (
        SELECT id, name, external_id FROM person
        WHERE tenant_id = %(tenant)s AND -gallery_id = -CAST(%(gallery)s AS integer)
            AND external_id = wanted.external_id OFFSET 0
    ) AS person
    UNION ALL
    SELECT person.* FROM unnest(CAST(%(names)s AS text[])) AS wanted (name) CROSS JOIN LATERAL (
        SELECT id, name, external_id FROM person
        WHERE tenant_id = %(tenant)s AND -gallery_id = -CAST(%(gallery)s AS integer)
            AND name = wanted.name AND external_id IS NULL OFFSET 0
    ) AS person
"""
_MAKE = text(f"""
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


async def add_references(session: AsyncSession, gallery: Gallery, rows: Sequence[ReferenceRow]) -> BulkResult:
    """Add one batch. The whole batch is checked before any row is written. Metadata is stored only for people that the
    batch makes.
    """
    faces = [prepare_face(row.values, gallery.space, row.source) for row in rows]
    wanted = _identities(rows)
    if not faces:
        return BulkResult(0, 0)
    # Insert first, look up only the people that exist already: a load of new people needs no lookup.
    made = await _make(session, gallery, list(wanted.values()))
    found = await _find(session, gallery, {identity: row for identity, row in wanted.items() if identity not in made})
    await _hold(session, gallery, set(found.values()))
    numbers = found | made
    new_people = frozenset(made.values())
    await store_faces(session, gallery, [numbers[_identity(row)] for row in rows], faces, new_people)
    return BulkResult(len(made), len(faces))


async def finish_load(engine: AsyncEngine) -> None:
    """Vacuum and analyze the searched tables, so that searches read the index alone.

    Needs PostgreSQL 17, where the service role may vacuum. On older versions autovacuum does it a little later.
    """
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM (ANALYZE, SKIP_LOCKED) face, face_detail, person, person_template"))


def _identity(row: ReferenceRow) -> PersonKey:
    return (None, row.name) if row.external_id is None else (row.external_id, "")


def _identities(rows: Sequence[ReferenceRow]) -> dict[PersonKey, ReferenceRow]:
    """The first row of each person, checked."""
    first: dict[PersonKey, ReferenceRow] = {}
    for row in rows:
        if _identity(row) not in first:
            check_name(row.name)
            if row.external_id is not None:
                check_name(row.external_id, "external_id")
            check_metadata({} if row.metadata is None else row.metadata)
            first[_identity(row)] = row
    return first


async def _find(session: AsyncSession, gallery: Gallery, wanted: dict[PersonKey, ReferenceRow]) -> dict[PersonKey, int]:
    if not wanted:
        return {}
    values = {
        "tenant": gallery.tenant_id,
        "gallery": gallery.id,
        "external_ids": [external_id for external_id, _ in wanted if external_id is not None],
        "names": [name for external_id, name in wanted if external_id is None],
    }
    return _by_identity(await fetch_rows_in_transaction(session, FIND_PEOPLE, values, prepare=False))


async def _make(session: AsyncSession, gallery: Gallery, rows: Sequence[ReferenceRow]) -> dict[PersonKey, int]:
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
    made = (await session.execute(_MAKE, values)).all()
    await record_change(session, gallery.id, SizeChange(people=len(made), bytes=sum(row.bytes for row in made)))
    return _by_identity([(row.id, row.name, row.external_id) for row in made])


def _by_identity(rows: Sequence[tuple[int, str, str | None]]) -> dict[PersonKey, int]:
    return {(external_id, "" if external_id is not None else name): number for number, name, external_id in rows}


async def _hold(session: AsyncSession, gallery: Gallery, numbers: set[int]) -> None:
    if numbers - await lock_people(session, gallery, sorted(numbers)):
        raise NotFound("a person was deleted during the load")
