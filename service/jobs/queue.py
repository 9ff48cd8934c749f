"""The queue behind the jobs: procrastinate over psycopg 3.

A job enters it in the transaction that makes the job's row, so neither is there without the other. It holds a
tenant's and a job's number and nothing else; every statement about the queue itself is procrastinate's.
"""

import asyncio
from collections.abc import Awaitable, Callable

import procrastinate
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job as QueuedJob
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import libpq_url
from service.telemetry import logger

QUEUE = "jobs"
TASK = "run_job"
HEARTBEAT_SECONDS = 1.0
STALLED_SECONDS = 5.0
"""A worker silent for so long is taken for dead. Where it was only slow, the job's claim keeps the work single."""
POLL_SECONDS = 2.0
BUSY_SECONDS = 3
_CONNECTIONS = 3  # to fetch and finish jobs and to tell that the worker lives; LISTEN has one of its own

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


_DEFER = text(
    """SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
        CAST(:queue AS varchar), CAST(:task AS varchar), 0, CAST(:lock AS text), NULL,
        jsonb_build_object('tenant_id', CAST(:tenant_id AS integer), 'number', CAST(:number AS bigint)), NULL
    )]::procrastinate_job_to_defer_v1[])"""
)


async def defer(session: AsyncSession, tenant_id: int, number: int, *, one_at_a_time: str | None = None) -> None:
    """Queue a job when the session commits; jobs of one `one_at_a_time` never run side by side."""
    values = {"queue": QUEUE, "task": TASK, "lock": one_at_a_time, "tenant_id": tenant_id, "number": number}
    await session.execute(_DEFER, values)


def queue_app(service_login: URL, run_job: RunJob) -> procrastinate.App:
    """The queue as a worker opens it (`async with app.open_async()`); `run_job` is called for each job."""
    connector = procrastinate.PsycopgConnector(conninfo=libpq_url(service_login), min_size=1, max_size=_CONNECTIONS)
    app = procrastinate.App(connector=connector)

    @app.task(name=TASK, queue=QUEUE, retry=_Postponed())
    async def run(tenant_id: int, number: int) -> None:
        await run_job(tenant_id, number)

    return app


async def work_off(app: procrastinate.App, *, concurrency: int, shutdown_seconds: float) -> None:
    """Fetch and run jobs until cancelled; jobs still running after `shutdown_seconds` go back to the queue."""
    recovery = asyncio.create_task(_recover_stalled(app))
    try:
        await app.run_worker_async(
            queues=[QUEUE],
            concurrency=concurrency,
            fetch_job_polling_interval=POLL_SECONDS,
            update_heartbeat_interval=HEARTBEAT_SECONDS,
            stalled_worker_timeout=STALLED_SECONDS,
            shutdown_graceful_timeout=shutdown_seconds,
            delete_jobs="always",  # what became of a job stands in its own row
            install_signal_handlers=False,
        )
    finally:
        recovery.cancel()
        await asyncio.gather(recovery, return_exceptions=True)


async def _recover_stalled(app: procrastinate.App) -> None:
    """Again and again: queue the jobs of workers that no longer tell that they live."""
    while True:
        try:
            for job in await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=STALLED_SECONDS):
                await _queue_again(app, job)
        except ConnectorException as error:
            logger("jobs").warning("stalled jobs cannot be read", error=type(error).__name__)
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _queue_again(app: procrastinate.App, job: QueuedJob) -> None:
    try:
        await app.job_manager.retry_job(job)
    except ConnectorException:  # another worker did it first
        return
    logger("jobs").info("a job of a lost worker is queued again", **job.task_kwargs)
