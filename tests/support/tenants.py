"""Tenants with data in every table, for tests of tenant isolation."""

import hashlib
import uuid
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.authentication import admit
from service.access.keys import create_key
from service.access.names import SCOPES
from service.access.operator import operator_transaction
from service.access.quotas import Quotas
from service.access.tenants import create_tenant
from service.database.connection import Database
from service.database.identifiers import new_identifier, to_text
from service.database.session import tenant_of, tenant_session
from service.embedding import external_space
from service.gallery.faces import NewFace, add_faces
from service.gallery.galleries import create_gallery
from service.gallery.people import create_person
from service.jobs.tables import job, job_input

GALLERY = "staff"
PERSON = "Ada"
SPACE = "external:test:512"
RATES = Quotas(requests_per_minute=1_000_000, inferences_per_minute=1_000_000)


@dataclass(frozen=True)
class FilledTenant:
    """A tenant with a gallery, a person, a face, a job and keys; names are the same for every tenant."""

    number: int
    name: str
    key: str
    key_id: str
    person: str
    face: str
    job: str


def embedding_of(name: str, dimension: int = 512) -> npt.NDArray[np.float32]:
    """Return the same embedding for the same name, unlike that of any other; shape (dimension,)."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)


async def fill_tenant(database: Database, quotas: Quotas = RATES) -> FilledTenant:
    """Make a fresh tenant with a row in every table of tenants."""
    name = f"tenant-{uuid.uuid4().hex[:12]}"
    async with operator_transaction(database.engine) as connection:
        number = await create_tenant(connection, name, quotas)
    async with tenant_session(database.engine, number) as session:
        summary, key = await create_key(session, "first", list(SCOPES))
        person, face, job_id = await _fill(session, name)
        await session.commit()
    await admit(database.engine, key)
    return FilledTenant(number, name, key, summary.id, person, face, job_id)


async def _fill(session: AsyncSession, name: str) -> tuple[str, str, str]:
    space = external_space(SPACE)
    assert space is not None
    gallery = await create_gallery(session, GALLERY, space)
    person = await create_person(session, gallery, PERSON, metadata={"tenant": name})
    faces = await add_faces(session, gallery, person, [NewFace(embedding_of(name), source=name)])
    return person.id, faces[0].id, await _finished_job(session)


async def _finished_job(session: AsyncSession) -> str:
    """Make a job that no worker takes up, with an input as if it still waited."""
    key = {"tenant_id": tenant_of(session), "id": new_identifier()}
    await session.execute(insert(job).values(**key, kind="nothing", arguments={"gallery": GALLERY}, status="failed"))
    piece = {"tenant_id": key["tenant_id"], "job_id": key["id"], "position": 0, "content": b"x"}
    await session.execute(insert(job_input).values(piece))
    return to_text(key["id"])
