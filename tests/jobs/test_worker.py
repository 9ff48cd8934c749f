"""The worker runs each job once, through failures and outages, alone and beside other workers."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from procrastinate.exceptions import ConnectorException
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service import worker
from service.database.connection import Database, open_pool
from service.database.session import tenant_session
from service.encoder.encoders import Encoders
from service.errors import Conflict, DatabaseUnavailable
from service.jobs import queue
from service.jobs.jobs import Job, JobProgress, begin_attempt, create_job, find_job, finish_job
from service.settings import Settings
from service.worker import MAXIMUM_LOSSES, Handler, JobRunner
from tests.conftest import new_tenant
from tests.jobs.conftest import StartWorker
from tests.support.jobs import finished, job_when
from tests.support.waiting import GUARD_SECONDS, until

Work = Callable[[AsyncSession, Job, JobProgress], Awaitable[dict[str, Any]]]


def handlers_of(work: Work) -> dict[str, Handler]:
    return {"test": Handler(work)}


async def start_job(session: AsyncSession, **arguments: Any) -> Job:
    job = await create_job(session, "test", arguments)
    await session.commit()
    return job


async def until_queue(session: AsyncSession, condition: str) -> None:
    """Wait until a condition of SQL is true for the tenant's entries in the queue."""
    query = f"SELECT {condition} FROM procrastinate_jobs WHERE (args->>'tenant_id')::int = :tenant"

    async def is_reached() -> bool:
        answer = await session.scalar(text(query), {"tenant": session.info["tenant_id"]})
        await session.rollback()
        return bool(answer)

    await until(is_reached)


async def until_queue_is_empty(session: AsyncSession) -> None:
    await until_queue(session, "count(*) = 0")


async def until_retried(session: AsyncSession) -> None:
    """Wait until a worker took the tenant's job and put it back."""
    await until_queue(session, "max(attempts) > 0")


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
        await until_queue_is_empty(session)


async def test_the_progress_of_uncommitted_work_is_visible(session: AsyncSession, start_worker: StartWorker) -> None:
    seen = asyncio.Event()

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        await create_job(own, "left behind", {})
        await progress(3, 10)
        await seen.wait()
        return {}

    async with start_worker(handlers_of(work)):
        job = await job_when(session, await start_job(session), lambda current: current.total is not None)
        assert (job.status, job.done, job.total) == ("running", 3, 10)
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
        await until_queue_is_empty(session)


async def test_an_unexpected_error_fails_the_job_without_showing_its_data(
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


async def test_several_workers_do_each_job_once(session: AsyncSession, start_worker: StartWorker) -> None:
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
        order.append(job.arguments["position"])
        running.clear()
        return {}

    jobs = [await create_job(session, "test", {"position": number}, one_at_a_time="x") for number in range(3)]
    await session.commit()
    async with start_worker(handlers_of(work)), start_worker(handlers_of(work)):
        statuses = [(await finished(session, job)).status for job in jobs]
    assert statuses == ["succeeded"] * 3
    assert order == [0, 1, 2]


async def test_a_job_that_another_worker_runs_is_not_started_again(
    session: AsyncSession, database: Database, tenant_id: int, start_worker: StartWorker
) -> None:
    """The other worker was silent for too long, but it still works."""

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        return {}

    async with tenant_session(database.engine, tenant_id) as elsewhere:
        job = await create_job(session, "test", {})
        await elsewhere.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": job.number})
        await session.commit()
        async with start_worker(handlers_of(work)):
            await until_retried(session)
            current = await find_job(session, job.id)
            await session.rollback()
            assert (current.status, current.attempts) == ("queued", 0)
            await elsewhere.rollback()
            assert (await finished(session, job)).attempts == 1


async def test_a_stopping_worker_returns_a_long_job_to_the_queue(
    session: AsyncSession, start_worker: StartWorker
) -> None:
    begun = asyncio.Event()
    is_short = False

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        begun.set()
        if not is_short:
            await asyncio.sleep(3600)
        return {}

    async with start_worker(handlers_of(work)):
        job = await start_job(session)
        await asyncio.wait_for(begun.wait(), GUARD_SECONDS)
    current = await find_job(session, job.id)
    await session.rollback()
    assert (current.status, current.attempts) == ("queued", 0)
    is_short = True
    async with start_worker(handlers_of(work)):
        assert (await finished(session, job)).status == "succeeded"


WORKER = """
import asyncio, os, signal, sys
from service.database.connection import open_database
from service.encoder.opening import open_encoders
from service.settings import Settings
from service.worker import Handler, run_worker

innocent_runs = asyncio.Event()

async def work(session, job, progress):
    if not job.arguments["kills"]:
        innocent_runs.set()
        await asyncio.sleep(3600)
    if job.arguments["kills"]:
        if job.attempts == 1:
            await innocent_runs.wait()
        elif await innocent_is_seen():
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)
    return {}

async def innocent_is_seen():
    try:
        await asyncio.wait_for(innocent_runs.wait(), 3)
    except TimeoutError:
        return False
    return True

async def main():
    settings = Settings(_env_file=None, data_dir=sys.argv[1], database_url=sys.argv[2] or None, encoder="fake")
    async with open_database(settings) as database:
        await run_worker(database, open_encoders(settings), handlers={"test": Handler(work)})

asyncio.run(main())
"""
"""A worker whose deadly jobs end its process. At their first attempt another job runs beside them, and at
their second attempt none may."""


async def test_a_job_that_kills_its_worker_twice_fails_and_the_others_go_on(
    session: AsyncSession, own_settings: Settings, start_worker: StartWorker
) -> None:
    deadly, beside = [await create_job(session, "test", {"kills": kills}) for kills in (True, False)]
    await session.commit()
    address = own_settings.database_url or ""
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER, str(own_settings.data_dir), address
        )
        assert await asyncio.wait_for(process.wait(), GUARD_SECONDS) == -signal.SIGKILL

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        assert not job.arguments["kills"], "it must not be begun again"
        return {}

    async with start_worker(handlers_of(work)):
        later = await start_job(session, kills=False)
        failed = await finished(session, deadly)
        assert [(await finished(session, job)).status for job in (beside, later)] == ["succeeded"] * 2
    assert failed.status == "failed"
    assert failed.error is not None
    assert f"its worker was lost {MAXIMUM_LOSSES} times" in failed.error["detail"]


@pytest.mark.parametrize("outages", [1, MAXIMUM_LOSSES + 1])
async def test_a_worker_outlives_outages_of_the_database_and_none_counts_against_the_job(
    outages: int, database: Database, tenant_id: int, start_worker: StartWorker
) -> None:
    attempts = 0

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        nonlocal attempts
        attempts += 1
        if attempts <= outages:
            drop_connections(database)
        await own.execute(text("SELECT 1"))
        return {}

    async with start_worker(handlers_of(work)):
        async with tenant_session(database.engine, tenant_id) as session:
            job = await start_job(session)
        ended = await finished_through_outage(database, tenant_id, job)
    assert (ended.status, ended.attempts, attempts) == ("succeeded", 1, outages + 1)


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


async def test_a_failure_after_the_commit_does_not_fail_the_job(
    session: AsyncSession, start_worker: StartWorker
) -> None:
    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        return {"faces": 1}

    async def tidy(engine: AsyncEngine, result: dict[str, Any]) -> None:
        assert result == {"faces": 1}
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1 / 0"))

    async with start_worker({"test": Handler(work, tidy)}):
        assert (await finished(session, await start_job(session))).status == "succeeded"


async def test_a_job_that_is_finished_is_not_run_again(session: AsyncSession, start_worker: StartWorker) -> None:
    """The entry stays in the queue if the worker is lost between the commit and its report."""
    runs: list[str] = []

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        runs.append(job.id)
        return {}

    job = await create_job(session, "test", {})
    await begin_attempt(session, job.number)
    await finish_job(session, job.number, {"faces": 1})
    await session.commit()
    async with start_worker(handlers_of(work)):
        await until_queue_is_empty(session)
    current = await find_job(session, job.id)
    assert (runs, current.status, current.attempts, current.result) == ([], "succeeded", 1, {"faces": 1})


async def test_a_job_whose_data_was_changed_meanwhile_fails_with_a_conflict(
    session: AsyncSession, start_worker: StartWorker
) -> None:
    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        statement = "INSERT INTO job_input (tenant_id, job_id, position, content) VALUES (:tenant, 1, 0, '')"
        await own.execute(text(statement), {"tenant": own.info["tenant_id"]})  # there is no job 1
        return {}

    async with start_worker(handlers_of(work)):
        job = await finished(session, await start_job(session))
    assert job.error is not None
    assert job.error["slug"] == "conflict"


async def test_a_job_that_was_removed_while_it_ran_leaves_nothing(
    session: AsyncSession, database: Database, start_worker: StartWorker
) -> None:
    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        await create_job(own, "left behind", {})
        async with tenant_session(database.engine, own.info["tenant_id"]) as other, other.begin():
            await other.execute(text("DELETE FROM job WHERE id = :number"), {"number": job.number})
        return {}

    await start_job(session)
    async with start_worker(handlers_of(work)):
        await until_queue_is_empty(session)
    assert await session.scalar(text("SELECT count(*) FROM job")) == 0


async def test_jobs_of_two_tenants_with_one_name_run_at_the_same_time(
    session: AsyncSession, other_session: AsyncSession, start_worker: StartWorker
) -> None:
    both = asyncio.Barrier(2)

    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        await both.wait()  # each waits until the other one runs
        return {}

    jobs = []
    for owner in (session, other_session):
        jobs.append(await create_job(owner, "test", {}, one_at_a_time="x"))
        await owner.commit()
    async with start_worker(handlers_of(work)):
        for owner, job in zip((session, other_session), jobs, strict=True):
            assert (await finished(owner, job)).status == "succeeded"


async def test_a_failure_after_the_commit_is_logged_and_not_raised(
    database: Database, encoders: Encoders, session: AsyncSession, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(own: AsyncSession, job: Job, progress: JobProgress) -> dict[str, Any]:
        return {}

    async def tidy(engine: AsyncEngine, result: dict[str, Any]) -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1 / 0"))

    job = await start_job(session)
    runner = JobRunner(database, encoders, {"test": Handler(work, tidy)})
    try:
        await runner.run_job(session.info["tenant_id"], job.number)
    finally:
        await runner.engine.dispose()
    assert (await find_job(session, job.id)).status == "succeeded"
    assert "tidying after a job failed" in "".join(capsys.readouterr())


async def test_sweeping_goes_on_after_an_outage_of_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "SWEEP_SECONDS", 0.001)
    nowhere = open_pool(database.logins.service.set(host="127.0.0.1", port=1, query={}), 1)
    sweeping = asyncio.create_task(worker._sweep(nowhere))
    written = ""
    while written.count("expired data were not deleted") < 3 and not sweeping.done():
        await asyncio.sleep(0.01)
        written += "".join(capsys.readouterr())
    assert not sweeping.done()
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    await nowhere.dispose()


@pytest.mark.parametrize("failures", [0, 1, 4])
async def test_the_end_of_a_job_is_reported_until_the_database_answers(
    failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_REPORT_DELAY_SECONDS", 0)
    sent: list[int] = []

    async def send() -> None:
        sent.append(len(sent))
        if len(sent) <= failures:
            raise ConnectorException

    await queue._report(send)
    assert len(sent) == failures + 1


async def test_a_report_that_never_arrives_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_REPORT_DELAY_SECONDS", 0)

    async def send() -> None:
        raise ConnectorException

    with pytest.raises(ConnectorException):
        await queue._report(send)


async def queued(sessions: dict[str, AsyncSession], names: str) -> list[tuple[AsyncSession, Job]]:
    """A job for each letter of `names`, in that order, for the tenant of the session of that name."""
    return [(sessions[name], await start_job(sessions[name], name=name)) for name in names]


async def all_finished(jobs: list[tuple[AsyncSession, Job]]) -> None:
    for session, job in jobs:
        await finished(session, job)


async def test_the_long_jobs_of_one_tenant_do_not_hold_up_the_job_of_another(
    session: AsyncSession, other_session: AsyncSession, start_worker: StartWorker
) -> None:
    release = asyncio.Event()
    running: list[str] = []

    async def work(_: AsyncSession, job: Job, __: JobProgress) -> dict[str, Any]:
        running.append(job.arguments["name"])
        if job.arguments["name"] == "a":
            await release.wait()
        return {}

    jobs = await queued({"a": session, "b": other_session}, "aaaaab")
    async with start_worker(handlers_of(work)):
        await finished(*jobs[-1])
        assert running.count("a") <= worker.MOST_JOBS_OF_ONE_TENANT
        release.set()
        await all_finished(jobs)


async def test_jobs_of_the_tenants_take_turns(
    database: Database,
    session: AsyncSession,
    other_session: AsyncSession,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "CONCURRENT_JOBS", 1)
    order: list[str] = []

    async def work(_: AsyncSession, job: Job, __: JobProgress) -> dict[str, Any]:
        order.append(job.arguments["name"])
        return {}

    async with tenant_session(database.engine, await new_tenant(database)) as third:
        jobs = await queued({"a": session, "b": other_session, "c": third}, "aaaabbbbc")
        async with start_worker(handlers_of(work)):
            await all_finished(jobs)
    assert "".join(order) == "abcababab"


async def test_a_worker_looks_for_the_next_job_of_a_tenant_as_soon_as_one_ends(
    session: AsyncSession, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker would find the third job only when it polls, which it never does here."""
    monkeypatch.setattr(queue, "POLL_SECONDS", 1e6)

    async def work(_: AsyncSession, __: Job, ___: JobProgress) -> dict[str, Any]:
        return {}

    jobs = await queued({"a": session}, "aaaaaa")
    async with start_worker(handlers_of(work)):
        await all_finished(jobs)


def test_a_worker_remembers_a_limited_number_of_tenants(database: Database) -> None:
    async def run_job(_: int, __: int) -> None: ...

    manager = queue.queue_app(database.logins.service, run_job, 1).job_manager
    assert isinstance(manager, queue._PersistentManager)
    for tenant in range(2 * queue._REMEMBERED_TENANTS):
        manager._note_served(tenant)
    assert len(manager._served) == queue._REMEMBERED_TENANTS
