"""Imports as jobs: the upload, the worker, and the remaining data if one of them is interrupted."""

import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.keys import KeySummary, create_key, revoke_key
from service.access.operator import operator_transaction
from service.access.quotas import Quotas
from service.access.tenants import change_quotas
from service.database.connection import Database
from service.database.identifiers import from_text
from service.database.session import tenant_session
from service.embedding import external_space
from service.errors import InvalidDataset, NotFound, PayloadTooLarge
from service.gallery.galleries import Gallery, create_gallery, delete_gallery, gallery_counts
from service.gallery.people import create_person
from service.identity.datasets.writing import export_dataset
from service.identity.import_job import IMPORT, run_requested_import, start_import
from service.jobs.jobs import Job, JobProgress, find_job, list_jobs
from service.settings import Settings
from service.worker import Handler
from tests.conftest import new_tenant
from tests.jobs.conftest import StartWorker
from tests.support.jobs import arriving, chunks_of, dataset_of, finished
from tests.support.waiting import GUARD_SECONDS, until

ROOT_FOLDER = Path(__file__).parents[2]
WORKER_PROGRAM = """
import asyncio, sys
from pathlib import Path
from service.database.connection import open_database
from service.encoder.opening import open_encoders
from service.settings import Settings
from service.worker import run_worker

async def main():
    folder, url = sys.argv[1:]
    settings = Settings(_env_file=None, data_dir=Path(folder), database_url=url or None, encoder="fake")
    async with open_database(settings) as database:
        await run_worker(database, open_encoders(settings))

asyncio.run(main())
"""


@pytest.fixture
async def gallery(session: AsyncSession) -> Gallery:
    """A gallery of external embeddings, of 3 numbers."""
    space = external_space("external:test:3")
    assert space is not None
    made = await create_gallery(session, "staff", space)
    await session.commit()
    return made


async def test_an_uploaded_dataset_becomes_references(
    session: AsyncSession, gallery: Gallery, start_worker: StartWorker
) -> None:
    rows = [("Ada", [0.1, 0.2, 0.3]), ("Bob", [1.0, 0.0, 2.5]), ("Ada", [0.3, 0.2, 0.1])]
    job = await start_import(session, "staff", arriving(chunks_of(dataset_of(rows), 10), 10_000))
    await session.commit()
    async with start_worker():
        job = await finished(session, job)
    assert (job.status, job.done, job.total) == ("succeeded", 3, 3)
    assert job.result == {"people": 2, "faces": 3, "shape": "dataset", "duplicates": 0}
    counts = await gallery_counts(session, gallery)
    assert (counts.people, counts.faces) == (2, 3)


async def test_a_wrong_row_fails_the_job_and_nothing_of_the_file_is_stored(
    session: AsyncSession, gallery: Gallery, start_worker: StartWorker
) -> None:
    content = dataset_of([("Ada", [0.1, 0.2, 0.3])] * 2500 + [("Bob", [0.1, 0.2])])
    job = await start_import(session, "staff", arriving(chunks_of(content), 10**6))
    await session.commit()
    async with start_worker():
        job = await finished(session, job)
    assert job.error is not None
    assert job.error["slug"] == "invalid-dataset"
    assert job.error["detail"] == "row 2501: 2 numbers, but external:test:3 has 3"
    assert (await gallery_counts(session, gallery)).people == 0
    assert await session.scalar(text("SELECT count(*) FROM job_input")) == 0


async def test_an_upload_that_is_too_large_or_empty_or_has_no_gallery_makes_no_job(
    session: AsyncSession, gallery: Gallery
) -> None:
    with pytest.raises(PayloadTooLarge):
        await start_import(session, "staff", arriving(chunks_of(b"x" * 101), 100))
    with pytest.raises(InvalidDataset):
        await start_import(session, "staff", arriving(chunks_of(b""), 100))
    with pytest.raises(NotFound):
        await start_import(session, "nobody", arriving(chunks_of(b"[]"), 100))
    await session.commit()
    assert (await list_jobs(session)).items == []


async def test_no_connection_is_held_while_an_upload_arrives(
    session: AsyncSession, gallery: Gallery, database: Database
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"["
        assert database.engine.pool.status().endswith("Current Checked out connections: 0")
        yield b"]"

    await start_import(session, "staff", arriving(slow(), 100))


async def test_an_import_does_not_go_into_a_gallery_that_was_recreated_meanwhile(
    session: AsyncSession, gallery: Gallery, start_worker: StartWorker
) -> None:
    job = await start_import(session, "staff", arriving(chunks_of(b"[]"), 100))
    await session.commit()
    await delete_gallery(session, gallery)
    await create_gallery(session, "staff", gallery.space)
    await session.commit()
    async with start_worker():
        job = await finished(session, job)
    assert job.error is not None
    assert job.error["slug"] == "not-found"


async def test_an_import_beyond_the_tenants_quota_fails_and_leaves_nothing(
    database: Database, start_worker: StartWorker
) -> None:
    name = f"quota-{uuid.uuid4().hex}"
    tenant_id = await new_tenant(database, name)
    async with operator_transaction(database.engine) as connection:
        await change_quotas(connection, name, Quotas(maximum_faces_per_gallery=2))
    async with tenant_session(database.engine, tenant_id) as session, start_worker():
        space = external_space("external:x:1")
        assert space is not None
        gallery = await create_gallery(session, "staff", space)
        await session.commit()
        job = await start_import(
            session, "staff", arriving(chunks_of(dataset_of([("Ada", [1.0]), ("Ada", [2.0]), ("Ada", [3.0])])), 1000)
        )
        await session.commit()
        job = await finished(session, job)
        assert job.error is not None
        assert job.error["slug"] == "quota-exceeded"
        assert (await gallery_counts(session, gallery)).people == 0


class WorkerProcess:
    """A worker as a separate process."""

    def __init__(self, settings: Settings) -> None:
        command = [sys.executable, "-c", WORKER_PROGRAM, str(settings.data_dir), settings.database_url or ""]
        environment = os.environ | {"PYTHONPATH": str(ROOT_FOLDER)}
        self.process = subprocess.Popen(command, cwd=ROOT_FOLDER, env=environment, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """End it like a crash."""
        self.process.kill()
        self.process.wait(GUARD_SECONDS)


@pytest.fixture
def worker_processes() -> Iterator[list[WorkerProcess]]:
    """Worker processes; those in the list are ended after the test."""
    started: list[WorkerProcess] = []
    yield started
    for worker in started:
        worker.kill()


async def test_an_import_whose_worker_is_killed_is_run_once_by_the_next_one(
    session: AsyncSession, database: Database, own_settings: Settings, worker_processes: list[WorkerProcess]
) -> None:
    """The worker is killed while it waits for the last person, which another transaction holds."""
    space = external_space("external:test:64")
    assert space is not None
    gallery = await create_gallery(session, "large", space)
    await create_person(session, gallery, "person 3999")
    await session.commit()
    values = np.random.default_rng(0).standard_normal((12_000, 64)).round(6)
    content = dataset_of([(f"person {number // 3}", row) for number, row in enumerate(values.tolist())])
    job = await start_import(session, "large", arriving(chunks_of(content, 10**6), 10**9))
    await session.commit()

    async with tenant_session(database.engine, gallery.tenant_id) as holder:
        await holder.execute(text("SELECT 1 FROM person WHERE name = 'person 3999' FOR UPDATE"))
        worker_processes.append(WorkerProcess(own_settings))
        await until(lambda: _waits_for_a_lock(session))
        worker_processes[0].kill()
    assert (await gallery_counts(session, gallery)).faces == 0
    interrupted = await find_job(session, job.id)
    await session.rollback()
    assert (interrupted.status, interrupted.attempts) == ("running", 1)

    worker_processes.append(WorkerProcess(own_settings))
    job = await finished(session, job)
    assert (job.status, job.attempts) == ("succeeded", 2)
    counts = await gallery_counts(session, gallery)
    assert (counts.people, counts.faces) == (4_000, 12_000)
    exported = b"".join([chunk async for chunk in export_dataset(session, gallery, "dataset")])
    assert exported.count(b"\n") == 12_000


async def _waits_for_a_lock(session: AsyncSession) -> bool:
    """Whether any transaction of this server waits for a row that another transaction holds."""
    waiting = await session.scalar(
        text("SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted")
    )
    await session.rollback()
    return bool(waiting)


async def test_a_large_import_tidies_the_tables_that_searches_read(
    session: AsyncSession, gallery: Gallery, start_worker: StartWorker
) -> None:
    if int(await session.scalar(text("SHOW server_version_num")) or 0) < 170_000:
        pytest.skip("before PostgreSQL 17 only autovacuum may do it")
    before = await _vacuums(session)
    rows = [(f"person {number}", [0.1, number, 0.3]) for number in range(1200)]
    job = await start_import(session, "staff", arriving(chunks_of(dataset_of(rows)), 10**6))
    await session.commit()
    async with start_worker():
        assert (await finished(session, job)).status == "succeeded"

        async def is_vacuumed() -> bool:
            return await _vacuums(session) > before

        await until(is_vacuumed)


async def _vacuums(session: AsyncSession) -> int:
    query = "SELECT pg_stat_get_vacuum_count('face'::regclass)"
    count = await session.scalar(text(query))
    await session.rollback()
    return int(count or 0)


async def import_of_new_key(session: AsyncSession) -> tuple[KeySummary, Job]:
    """A key, and a job that it has started and that no worker has begun."""
    key, _ = await create_key(session, "loader")
    await session.commit()
    content = arriving(chunks_of(dataset_of([("Ada", [0.1, 0.2, 0.3])])), 10_000)
    job = await start_import(session, "staff", content, from_text(key.id))
    await session.commit()
    return key, job


async def test_a_waiting_import_fails_if_its_key_was_revoked(
    session: AsyncSession, gallery: Gallery, start_worker: StartWorker
) -> None:
    key, job = await import_of_new_key(session)
    await revoke_key(session, key.id)
    await session.commit()
    async with start_worker():
        job = await finished(session, job)
    assert job.error is not None
    assert (job.error["slug"], "revoked" in job.error["detail"]) == ("unauthenticated", True)
    assert (await gallery_counts(session, gallery)).people == 0


async def test_a_running_import_stores_nothing_if_its_key_is_revoked(
    session: AsyncSession, gallery: Gallery, start_worker: StartWorker, database: Database, tenant_id: int
) -> None:
    key, job = await import_of_new_key(session)

    async def work(of_job: AsyncSession, running: Job, progress: JobProgress) -> dict[str, Any]:
        async def revoke(done: int, total: int | None) -> None:
            async with tenant_session(database.engine, tenant_id) as own, own.begin():
                await revoke_key(own, key.id)

        return await run_requested_import(of_job, running, revoke)

    async with start_worker({IMPORT: Handler(work)}):
        job = await finished(session, job)
    assert job.error is not None
    assert job.error["slug"] == "unauthenticated"
    assert (await gallery_counts(session, gallery)).people == 0
