"""The worker: runs background jobs, each in one transaction. It runs inside `serve` and as `face-identity work`.

If a worker is killed, another one starts its job again within seconds, from the beginning; the first attempt leaves
nothing behind. Two workers never run the same job at the same time.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.access.operator import operator_transaction
from service.access.tenants import list_tenants
from service.database.connection import Database
from service.database.failures import DATABASE_FAILURES
from service.database.session import tenant_session
from service.encoder.encoders import Encoders
from service.errors import Conflict, DatabaseUnavailable, ServiceError
from service.identity.import_job import IMPORT, run_requested_import, tidy_after_import
from service.identity.uploaded_datasets import delete_expired_datasets
from service.jobs.jobs import (
    Job,
    JobProgress,
    begin_attempt,
    claim_job,
    delete_finished_jobs,
    fail_job,
    find_job_number,
    finish_job,
    take_back_attempt,
)
from service.jobs.queue import TryAgainLater, queue_app, work_off
from service.jobs.turns import Turns
from service.telemetry import logger
from service.turns import act_for

CONCURRENT_JOBS = 3
MOST_JOBS_OF_ONE_TENANT = 2
"""Two jobs of a tenant run at one time, as long as there are two. One place is kept for the other tenants, who would
otherwise wait until a long import has ended.
"""
SHUTDOWN_SECONDS = 5.0
"""Time that a stopping worker gives to its running jobs before they go back to the queue."""
MAXIMUM_LOSSES = 2
"""A job that was running when a worker was lost, this many times, fails: its input may be what ends the process."""
SWEEP_SECONDS = 600.0
RESTART_SECONDS = 2.0
RETENTION = timedelta(days=30)
"""Time that a finished job can be read, if JOB_RETENTION_DAYS does not say otherwise."""
_DATABASE_ERRORS = (*DATABASE_FAILURES, DatabaseUnavailable)


@dataclass(frozen=True)
class Handler:
    """The functions for one kind of job."""

    work: Callable[[AsyncSession, Job, JobProgress], Awaitable[dict[str, Any]]]
    """Does the work in the session's transaction and returns the result of the job. It does not commit."""
    tidy: Callable[[AsyncEngine, dict[str, Any]], Awaitable[None]] | None = None
    """Runs after the commit with the result. If it fails, the job has still succeeded."""


HANDLERS: Mapping[str, Handler] = {IMPORT: Handler(run_requested_import, tidy_after_import)}


async def run_worker(
    database: Database,
    encoders: Encoders,
    stop: asyncio.Event | None = None,
    handlers: Mapping[str, Handler] | None = None,
    retention: timedelta = RETENTION,
) -> None:
    """Run jobs until `stop` is set, through outages of the database too. `handlers` replaces HANDLERS in tests.

    Finished jobs are deleted after the time `retention`.
    """
    runner = JobRunner(database, encoders, HANDLERS if handlers is None else handlers, retention)
    stop = stop or asyncio.Event()
    try:
        while not stop.is_set():
            await _work_until(runner, stop)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RESTART_SECONDS)
    finally:
        await runner.engine.dispose()


async def _work_until(runner: "JobRunner", stop: asyncio.Event) -> None:
    """Run jobs until `stop` is set or the database does not answer."""
    work = asyncio.create_task(_work(runner))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        work.cancel()
        (outcome,) = await asyncio.gather(work, return_exceptions=True)
    if isinstance(outcome, Exception):
        logger("worker").warning("the worker restarts", error=type(outcome).__name__)


async def _work(runner: "JobRunner") -> None:
    logins = runner.database.logins
    app = queue_app(logins.service, runner.run_job, MOST_JOBS_OF_ONE_TENANT, pooled=logins.service_is_pooled)
    async with app.open_async():
        await runner.take_back_all()
        sweeping = asyncio.create_task(_sweep(runner.engine, runner.retention))
        try:
            await work_off(
                app,
                concurrency=CONCURRENT_JOBS,
                shutdown_seconds=SHUTDOWN_SECONDS,
                listens=not logins.service_is_pooled,
            )
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)


async def _sweep(engine: AsyncEngine, retention: timedelta = RETENTION) -> None:
    """Delete expired datasets and old jobs every SWEEP_SECONDS, until cancelled."""
    while True:
        try:
            datasets, jobs = await delete_expired_datasets(engine), await delete_old_jobs(engine, retention)
            if datasets or jobs:
                logger("worker").info("expired data deleted", datasets=datasets, jobs=jobs)
        except _DATABASE_ERRORS as error:  # the database is away; the next turn tries again
            logger("worker").warning("expired data were not deleted", error=type(error).__name__)
        await asyncio.sleep(SWEEP_SECONDS)


async def delete_old_jobs(engine: AsyncEngine, retention: timedelta) -> int:
    """Delete every tenant's jobs that finished longer ago than `retention`, and return their number."""
    async with operator_transaction(engine) as connection:
        tenants = await list_tenants(connection)
    deleted = 0
    for tenant in tenants:
        async with tenant_session(engine, tenant.tenant_id) as session, session.begin():
            deleted += await delete_finished_jobs(session, retention)
    return deleted


class JobRunner:
    """Runs jobs. It has a connection pool of its own, so that jobs and requests do not wait for each other."""

    def __init__(
        self,
        database: Database,
        encoders: Encoders,
        handlers: Mapping[str, Handler],
        retention: timedelta = RETENTION,
    ) -> None:
        self.database = database
        self.encoders = encoders
        self.engine: AsyncEngine = database.open_job_pool(2 * CONCURRENT_JOBS + 1)
        self.handlers = handlers
        self._turns = Turns()
        self._interrupted: dict[tuple[int, int], int] = {}
        """Attempts that the end of this worker or an outage of the database interrupted, by tenant and number of the
        job. Each is taken back as soon as the database answers: only a lost worker counts against a job.
        """
        self.retention = retention

    async def run_job(self, tenant_id: int, number: int) -> None:
        """Run one job unless it is finished or removed. Raises TryAgainLater if it cannot run now."""
        act_for(tenant_id)
        try:
            await self._take_back(tenant_id, number)
            async with tenant_session(self.engine, tenant_id) as session:
                if not await claim_job(session, number):  # until this session ends: the turn may come much later
                    raise TryAgainLater("another worker has the job")
                queued = await find_job_number(session, number)
            if queued is None or queued.is_finished:  # the queue may hand out a job again after its worker was lost
                return
            async with self._turns.taken(alone=queued.attempts > 0), tenant_session(self.engine, tenant_id) as session:
                await self._run_claimed(session, tenant_id, number)
        except asyncio.CancelledError:
            await asyncio.shield(self._take_back(tenant_id, number))
            raise
        except _DATABASE_ERRORS as error:
            raise TryAgainLater(type(error).__name__) from None

    async def _run_claimed(self, session: AsyncSession, tenant_id: int, number: int) -> None:
        if not await claim_job(session, number):
            raise TryAgainLater("another worker has the job")
        queued = await find_job_number(session, number)
        if queued is None or queued.is_finished:  # another worker has ended it meanwhile
            return
        try:
            async with tenant_session(self.engine, tenant_id) as own, own.begin():
                job = await begin_attempt(own, number)
            if job is None:
                return
            failure = await self._attempt(session, job, JobProgress(self.engine, tenant_id, number))
            if failure is not None:
                await session.rollback()
                await fail_job(session, number, failure)
                await session.commit()
        except (asyncio.CancelledError, *_DATABASE_ERRORS):
            self._interrupted[tenant_id, number] = queued.attempts + 1  # also if only the commit of its begin was lost
            raise

    async def _attempt(self, session: AsyncSession, job: Job, progress: JobProgress) -> ServiceError | None:
        """Do the work and commit it. Returns the reason if the job fails; then nothing is committed."""
        try:
            if job.attempts > MAXIMUM_LOSSES:
                return ServiceError(
                    f"given up: its worker was lost {MAXIMUM_LOSSES} times while the job ran, so its input may be what "
                    "ends the worker, by its size or by a fault in the service"
                )
            handler = self.handlers[job.kind]
            result = await handler.work(session, job, progress)
            await finish_job(session, job.number, result)
            await session.commit()
        except _DATABASE_ERRORS:
            raise
        except ServiceError as error:
            return error
        except IntegrityError:
            return Conflict("the data of the job was changed or removed while it ran")
        except Exception as error:
            _log_bug(job, error)
            return ServiceError("the job failed because of an error in the service; see the log")
        logger("worker").info("job done", job=job.id, kind=job.kind)
        await self._tidy(handler, result)
        return None

    async def _tidy(self, handler: Handler, result: dict[str, Any]) -> None:
        if handler.tidy is not None:
            try:
                await handler.tidy(self.engine, result)
            except SQLAlchemyError as error:
                logger("worker").warning("tidying after a job failed", error=type(error).__name__)

    async def take_back_all(self) -> None:
        """Take back every attempt that an outage of the database has interrupted."""
        for tenant_id, number in list(self._interrupted):
            await self._take_back(tenant_id, number)

    async def _take_back(self, tenant_id: int, number: int) -> None:
        attempts = self._interrupted.get((tenant_id, number))
        if attempts is not None:
            with contextlib.suppress(*_DATABASE_ERRORS):
                async with tenant_session(self.engine, tenant_id) as session, session.begin():
                    await take_back_attempt(session, number, attempts)
                del self._interrupted[tenant_id, number]


def _log_bug(job: Job, error: Exception) -> None:
    """Log the stack without the error's message: a message may contain part of an embedding."""
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    logger("worker").error("job failed", job=job.id, kind=job.kind, error=type(error).__name__, frames=frames[-8:])
