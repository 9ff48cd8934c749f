"""The queue as a worker uses it: procrastinate over psycopg 3. Every statement about it is procrastinate's."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import procrastinate
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job as QueuedJob
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from sqlalchemy import URL

from service.database.connection import libpq_url
from service.jobs.deferral import QUEUE, TASK
from service.telemetry import logger

HEARTBEAT_SECONDS = 1.0
STALLED_SECONDS = 5.0
"""A worker silent for so long is taken for dead. Where it was only slow, the job's claim keeps the work single."""
POLL_SECONDS = 2.0
BUSY_SECONDS = 3
_CONNECTIONS = 3  # to fetch and finish jobs and to tell that the worker lives; LISTEN has one of its own
_CONNECT_SECONDS = 5.0
_FINISH_ATTEMPTS = 5

RunJob = Callable[[int, int], Awaitable[None]]
"""Works off one job, given the tenant's and the job's number."""


class TryAgainLater(Exception):
    """The job cannot be worked off now: another worker has it, or the database went away."""


class _Postponed(BaseRetryStrategy):
    """Queue a job again when it is to be tried later or when the worker is asked to stop; never otherwise."""

    def get_retry_decision(self, *, exception: BaseException, job: QueuedJob) -> RetryDecision | None:  # noqa: ARG002
        if isinstance(exception, TryAgainLater):
            return RetryDecision(retry_in={"seconds": BUSY_SECONDS})
        return RetryDecision() if isinstance(exception, asyncio.CancelledError) else None


class _Manager(JobManager):
    """Tries more than once to say what became of a job: one that nobody says it of would seem to run for ever."""

    async def finish_job(self, job: QueuedJob, status: Status, delete_job: bool) -> None:
        """End a job that ran."""
        await _insist(lambda: super(_Manager, self).finish_job(job, status, delete_job))

    async def retry_job(self, job: QueuedJob, *details: Any, **named: Any) -> None:
        """Queue a job that could not run."""
        await _insist(lambda: super(_Manager, self).retry_job(job, *details, **named))


async def _insist(tell: Callable[[], Awaitable[None]]) -> None:
    for attempt in range(1, _FINISH_ATTEMPTS + 1):
        try:
            await tell()
        except ConnectorException:
            if attempt == _FINISH_ATTEMPTS:
                raise
            await asyncio.sleep(1)
        else:
            return


def queue_app(service_login: URL, run_job: RunJob) -> procrastinate.App:
    """The queue as a worker opens it (`async with app.open_async()`); `run_job` is called for each job."""
    connector = procrastinate.PsycopgConnector(
        conninfo=libpq_url(service_login), min_size=1, max_size=_CONNECTIONS, timeout=_CONNECT_SECONDS
    )
    app = procrastinate.App(connector=connector)
    app.job_manager = _Manager(connector)

    @app.task(name=TASK, queue=QUEUE, retry=_Postponed())
    async def run(tenant_id: int, number: int) -> None:
        await run_job(tenant_id, number)

    return app


async def work_off(app: procrastinate.App, *, concurrency: int, shutdown_seconds: float) -> None:
    """Fetch and run jobs until cancelled; jobs still running after `shutdown_seconds` go back to the queue.

    Raises when the database does not answer: start anew, as another worker, and what this one had is taken up again.
    """
    work = app.run_worker_async(
        queues=[QUEUE],
        concurrency=concurrency,
        fetch_job_polling_interval=POLL_SECONDS,
        update_heartbeat_interval=HEARTBEAT_SECONDS,
        stalled_worker_timeout=STALLED_SECONDS,
        shutdown_graceful_timeout=shutdown_seconds,
        delete_jobs="always",  # what became of a job stands in its own row
        install_signal_handlers=False,
    )
    tasks = [asyncio.create_task(work), asyncio.create_task(_recover_stalled(app))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _recover_stalled(app: procrastinate.App) -> None:
    """Again and again: queue the jobs of workers that no longer tell that they live."""
    while True:
        for job in await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=STALLED_SECONDS):
            with contextlib.suppress(ConnectorException):  # another worker did it first
                await app.job_manager.retry_job_by_id_async(job.id or 0, datetime.now(UTC))
                logger("jobs").info("a job of a lost worker is queued again", **job.task_kwargs)
        await asyncio.sleep(HEARTBEAT_SECONDS)
