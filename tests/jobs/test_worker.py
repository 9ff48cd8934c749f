"""Working off jobs: once each, through failures and outages, alone and side by side."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.database.connection import Database
from service.database.session import tenant_session
from service.errors import Conflict, DatabaseUnavailable
from service.jobs.jobs import Job, begin_attempt, create_job, find_job
from service.jobs.progress import JobProgress
from service.worker import MAXIMUM_ATTEMPTS, Handler
from tests.jobs.conftest import StartWorker
from tests.support.jobs import finished

Work = Callable[[AsyncSession, Job, JobProgress], Awaitable[dict[str, Any]]]


def handlers_of(work: Work) -> dict[str, Handler]:
    return {"test": Handler(work)}


async def start_job(session: AsyncSession, **arguments: Any) -> Job:
    job = await create_job(session, "test", arguments)
    await session.commit()
    return job


async def queue_is_empty(session: AsyncSession) -> bool:
    query = "SELECT count(*) FROM procrastinate_jobs WHERE (args->>'tenant_id')::int = :tenant"
    for _ in range(50):
        if not await session.scalar(text(query), {"tenant": session.info["tenant_id"]}):
            return True
        await asyncio.sleep(0.1)
    return False


async def test_a_job_is_done_and_its_queue_entry_removed(session: AsyncSession, start_worker: StartWorker) -> None:
    async def work(_: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        await progress(1, 1)
        return {"heard": job.arguments["word"]}

    async with start_worker(handlers_of(work)):
        job = await finished(session, await start_job(session, word="hello"))
        assert (job.status, job.result, job.done, job.total) == ("succeeded", {"heard": "hello"}, 1, 1)
        assert job.started_at is not None
        assert job.finished_at is not None
        assert job.started_at <= job.finished_at
        assert await queue_is_empty(session)


async def test_progress_is_seen_while_the_work_is_uncommitted(session: AsyncSession, start_worker: StartWorker) -> None:
    seen = asyncio.Event()

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        await create_job(own, "left behind", {})
        await progress(3, 10)
        await asyncio.wait_for(seen.wait(), 20)
        return {}

    async with start_worker(handlers_of(work)):
        job = await start_job(session)
        for _ in range(100):
            found = await find_job(session, job.id)
            await session.rollback()
            if found.total:
                break
            await asyncio.sleep(0.05)
        assert (found.status, found.done, found.total) == ("running", 3, 10)
        count = await session.scalar(text("SELECT count(*) FROM job WHERE kind = 'left behind'"))
        await session.rollback()
        assert count == 0
        seen.set()
        assert (await finished(session, job)).status == "succeeded"


async def test_a_job_that_fails_leaves_nothing_but_its_reason(session: AsyncSession, start_worker: StartWorker) -> None:
    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        await create_job(own, "left behind", {})
        raise Conflict("no")

    async with start_worker(handlers_of(work)):
        job = await finished(session, await start_job(session))
        assert (job.status, job.attempts) == ("failed", 1)
        assert job.error is not None
        assert (job.error["slug"], job.error["detail"]) == ("conflict", "no")
        assert await session.scalar(text("SELECT count(*) FROM job WHERE kind = 'left behind'")) == 0
        assert await queue_is_empty(session)


async def test_a_mistake_in_the_program_fails_the_job_without_telling_its_data(
    session: AsyncSession, start_worker: StartWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        raise ValueError("0.12345")

    async with start_worker(handlers_of(work)):
        job = await finished(session, await start_job(session))
    assert job.error is not None
    assert job.error["slug"] == "internal-error"
    written = capsys.readouterr()
    assert "0.12345" not in str(job.error) + written.out + written.err
    assert "test_worker.py" in written.out + written.err


async def test_a_job_of_an_unknown_kind_fails(session: AsyncSession, start_worker: StartWorker) -> None:
    async with start_worker({}):
        assert (await finished(session, await start_job(session))).status == "failed"


async def test_workers_side_by_side_do_each_job_once(session: AsyncSession, start_worker: StartWorker) -> None:
    done: list[str] = []

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        await asyncio.sleep(0.02)
        done.append(job.id)
        return {}

    handlers = handlers_of(work)
    jobs = [await create_job(session, "test", {}) for _ in range(30)]
    await session.commit()
    async with start_worker(handlers), start_worker(handlers), start_worker(handlers):
        for job in jobs:
            await finished(session, job)
    assert sorted(done) == sorted(job.id for job in jobs)


async def test_jobs_of_one_name_run_one_at_a_time_in_their_order(
    session: AsyncSession, start_worker: StartWorker
) -> None:
    running: list[int] = []
    order: list[int] = []

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        running.append(job.number)
        assert running == [job.number]
        await asyncio.sleep(0.1)
        order.append(job.arguments["place"])
        running.clear()
        return {}

    jobs = [await create_job(session, "test", {"place": place}, one_at_a_time="x") for place in range(3)]
    await session.commit()
    async with start_worker(handlers_of(work)), start_worker(handlers_of(work)):
        statuses = [(await finished(session, job)).status for job in jobs]
    assert statuses == ["succeeded"] * 3
    assert order == [0, 1, 2]


async def test_a_job_that_is_running_elsewhere_is_left_alone(
    session: AsyncSession, database: Database, tenant_id: int, start_worker: StartWorker
) -> None:
    """As where a worker was only taken for dead: it still holds the job."""

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        return {}

    async with tenant_session(database.engine, tenant_id) as elsewhere:
        job = await create_job(session, "test", {})
        await elsewhere.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": job.number})
        await session.commit()
        async with start_worker(handlers_of(work)):
            await asyncio.sleep(1.5)
            found = await find_job(session, job.id)
            assert (found.status, found.attempts) == ("queued", 0)
            await elsewhere.rollback()
            assert (await finished(session, job)).attempts == 1


async def test_a_stopping_worker_gives_a_long_job_back(session: AsyncSession, start_worker: StartWorker) -> None:
    begun = asyncio.Event()
    is_short = False

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        begun.set()
        if not is_short:
            await asyncio.sleep(3600)
        return {}

    async with start_worker(handlers_of(work)):
        job = await start_job(session)
        await asyncio.wait_for(begun.wait(), 20)
    found = await find_job(session, job.id)
    await session.rollback()
    assert (found.status, found.attempts) == ("queued", 0)
    is_short = True
    async with start_worker(handlers_of(work)):
        assert (await finished(session, job, 5)).status == "succeeded"


async def test_a_job_that_always_kills_its_worker_is_given_up(session: AsyncSession, start_worker: StartWorker) -> None:
    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        raise AssertionError("it must not be begun again")

    job = await create_job(session, "test", {})
    for _ in range(MAXIMUM_ATTEMPTS):
        await begin_attempt(session, job.number)
    await session.commit()
    async with start_worker(handlers_of(work)):
        found = await finished(session, job)
    assert found.error is not None
    assert "given up" in found.error["detail"]


async def test_a_worker_outlives_the_loss_of_every_connection(
    database: Database, tenant_id: int, start_worker: StartWorker
) -> None:
    attempts = 0

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            drop_connections(database)
        await own.execute(text("SELECT 1"))
        return {}

    async with start_worker(handlers_of(work)):
        async with tenant_session(database.engine, tenant_id) as session:
            job = await start_job(session)
        assert (await finished_through_outage(database, tenant_id, job)).status == "succeeded"
    assert attempts == 2


def drop_connections(database: Database) -> None:
    engine = create_engine(database.logins.administrator)
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database() AND backend_type = 'client backend'"
            )
        )
    engine.dispose()


async def finished_through_outage(database: Database, tenant_id: int, job: Job) -> Job:
    while True:
        with contextlib.suppress(OperationalError, DatabaseUnavailable):
            async with tenant_session(database.engine, tenant_id) as session:
                return await finished(session, job)


async def test_work_after_the_commit_may_fail(session: AsyncSession, start_worker: StartWorker) -> None:
    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        return {"faces": 1}

    async def tidy(engine: AsyncEngine, result: dict[str, Any]) -> None:
        assert result == {"faces": 1}
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1 / 0"))

    async with start_worker({"test": Handler(work, tidy)}):
        assert (await finished(session, await start_job(session))).status == "succeeded"
