"""The worker: one job, one transaction. It runs inside `serve` and as `face-identity work`.

A job whose worker is killed is taken up again within seconds and from its beginning; of its first attempt nothing
is left. Side by side with other workers none runs a job that another one has.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.database.connection import Database, open_pool
from service.database.failures import DATABASE_FAILURES
from service.database.session import tenant_session
from service.encoder.encoders import Encoders
from service.errors import Conflict, DatabaseUnavailable, ServiceError
from service.identity.import_job import IMPORT, run_import, tidy_after_import
from service.identity.uploaded_datasets import delete_expired_datasets
from service.jobs.jobs import (
    Job,
    begin_attempt,
    claim_job,
    fail_job,
    find_job_number,
    finish_job,
    take_back_attempt,
)
from service.jobs.progress import JobProgress
from service.jobs.queue import TryAgainLater, queue_app, work_off
from service.telemetry import logger

CONCURRENT_JOBS = 2
SHUTDOWN_SECONDS = 5.0
"""How long a stopping worker lets jobs come to their end; then they go back to the queue."""
MAXIMUM_ATTEMPTS = 10
SWEEP_SECONDS = 600.0
RESTART_SECONDS = 2.0


@dataclass(frozen=True)
class Handler:
    """What is done for one kind of job."""

    work: Callable[[AsyncSession, Job, JobProgress], Awaitable[dict[str, Any]]]
    """Does the work in the session's transaction, which it does not commit, and gives the result."""
    tidy: Callable[[AsyncEngine, dict[str, Any]], Awaitable[None]] | None = None
    """Done after the commit; if it fails, the job has succeeded all the same."""


HANDLERS: Mapping[str, Handler] = {IMPORT: Handler(run_import, tidy_after_import)}


async def run_worker(
    database: Database,
    encoders: Encoders,
    stop: asyncio.Event | None = None,
    handlers: Mapping[str, Handler] | None = None,
) -> None:
    """Work off jobs until `stop` is set, through outages of the database too; `handlers` in place of the usual ones."""
    runner = JobRunner(database, encoders, HANDLERS if handlers is None else handlers)
    stop = stop or asyncio.Event()
    try:
        while not stop.is_set():
            await _work_until(runner, stop)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RESTART_SECONDS)
    finally:
        await runner.engine.dispose()


async def _work_until(runner: "JobRunner", stop: asyncio.Event) -> None:
    """One life of the queue's worker; it ends when `stop` is set or the database goes away."""
    work = asyncio.create_task(_work(runner))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        work.cancel()
        (outcome,) = await asyncio.gather(work, return_exceptions=True)
    if isinstance(outcome, Exception):
        logger("worker").warning("the worker starts anew", error=type(outcome).__name__)


async def _work(runner: "JobRunner") -> None:
    app = queue_app(runner.database.logins.service, runner.run_job)
    async with app.open_async():
        sweeping = asyncio.create_task(_sweep(runner.engine))
        try:
            await work_off(app, concurrency=CONCURRENT_JOBS, shutdown_seconds=SHUTDOWN_SECONDS)
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)


async def _sweep(engine: AsyncEngine) -> None:
    """Again and again: remove what nobody has used for its time."""
    while True:
        try:
            deleted = await delete_expired_datasets(engine)
            if deleted:
                logger("worker").info("uploaded datasets expired", datasets=deleted)
        except (OperationalError, InterfaceError, DatabaseUnavailable) as error:
            logger("worker").warning("nothing was swept", error=type(error).__name__)
        await asyncio.sleep(SWEEP_SECONDS)


class JobRunner:
    """What jobs are worked off with: connections apart from those that serve requests, and the loaded encoders."""

    def __init__(self, database: Database, encoders: Encoders, handlers: Mapping[str, Handler]) -> None:
        self.database = database
        self.encoders = encoders
        self.engine: AsyncEngine = open_pool(database.logins.service, 2 * CONCURRENT_JOBS + 1)
        self.handlers = handlers

    async def run_job(self, tenant_id: int, number: int) -> None:
        """Work off one job unless it is finished or gone; TryAgainLater while that is not possible."""
        try:
            async with tenant_session(self.engine, tenant_id) as session:
                await self._run_claimed(session, tenant_id, number)
        except asyncio.CancelledError:
            await asyncio.shield(self._take_back(tenant_id, number))
            raise
        except (OperationalError, InterfaceError, DatabaseUnavailable) as error:
            raise TryAgainLater(type(error).__name__) from None

    async def _run_claimed(self, session: AsyncSession, tenant_id: int, number: int) -> None:
        if not await claim_job(session, number):
            raise TryAgainLater("another worker has the job")
        found = await find_job_number(session, number)
        if found is None or found.is_finished:
            return
        async with tenant_session(self.engine, tenant_id) as own, own.begin():
            job = await begin_attempt(own, number)
        if job is None:
            return
        failure = await self._attempt(session, job, JobProgress(self.engine, tenant_id, number))
        if failure is not None:
            await session.rollback()
            await fail_job(session, number, failure)
            await session.commit()

    async def _attempt(self, session: AsyncSession, job: Job, progress: JobProgress) -> ServiceError | None:
        """Do the work and commit it, or say why it cannot be done."""
        try:
            if job.attempts > MAXIMUM_ATTEMPTS:
                return ServiceError(f"given up after {MAXIMUM_ATTEMPTS} attempts that were cut short")
            handler = self.handlers[job.kind]
            result = await handler.work(session, job, progress)
            await finish_job(session, job.number, result)
            await session.commit()
        except (OperationalError, InterfaceError, DatabaseUnavailable):
            raise
        except ServiceError as error:
            return error
        except IntegrityError:
            return Conflict("what the job works on was changed or removed while it ran")
        except Exception as error:
            _log_bug(job, error)
            return ServiceError("the job failed for a reason that lies in the service; its log tells where")
        logger("worker").info("job done", job=job.id, kind=job.kind)
        await self._tidy(handler, result)
        return None

    async def _tidy(self, handler: Handler, result: dict[str, Any]) -> None:
        if handler.tidy is not None:
            try:
                await handler.tidy(self.engine, result)
            except SQLAlchemyError as error:
                logger("worker").warning("tidying after a job failed", error=type(error).__name__)

    async def _take_back(self, tenant_id: int, number: int) -> None:
        with contextlib.suppress(*DATABASE_FAILURES, DatabaseUnavailable):
            async with tenant_session(self.engine, tenant_id) as session, session.begin():
                await take_back_attempt(session, number)


def _log_bug(job: Job, error: Exception) -> None:
    """The places in the program and no message: a message may hold a piece of an embedding."""
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    logger("worker").error("job failed", job=job.id, kind=job.kind, error=type(error).__name__, places=places[-8:])
