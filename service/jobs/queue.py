"""The queue as a worker reads it: procrastinate over psycopg 3.

Every statement here is procrastinate's. The entry of a job is added by `jobs.create_job`, in the transaction that makes
the job's row. An entry holds the numbers of the tenant and the job, and nothing else of theirs.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import procrastinate
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job as QueueEntry
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from sqlalchemy import URL

from service.database.addresses import conninfo
from service.jobs.jobs import QUEUE, TASK
from service.telemetry import logger

HEARTBEAT_SECONDS = 1.0
STALLED_SECONDS = 5.0
"""A worker without a heartbeat for this long counts as dead. If it was only slow, `jobs.claim_job` still keeps a second
worker from running its job."""
POLL_SECONDS = 2.0
BUSY_SECONDS = 3
"""Delay before a job that another worker holds is tried again."""
_CONNECTIONS = 3  # to fetch jobs, to finish them and for heartbeats; LISTEN has a connection of its own
_CONNECT_SECONDS = 5.0
_REPORT_ATTEMPTS = 5
_REPORT_DELAY_SECONDS = 1.0

RunJob = Callable[[int, int], Awaitable[None]]
"""Runs one job, given the numbers of the tenant and the job."""


class TryAgainLater(Exception):
    """The job cannot run now: another worker holds it, or the database is not available."""


class _RetryPostponed(BaseRetryStrategy):
    """Queues a job again if it was postponed or if the worker is stopping, and never for another reason."""

    def get_retry_decision(self, *, exception: BaseException, job: QueueEntry) -> RetryDecision | None:  # noqa: ARG002
        if isinstance(exception, TryAgainLater):
            return RetryDecision(retry_in={"seconds": BUSY_SECONDS})
        return RetryDecision() if isinstance(exception, asyncio.CancelledError) else None


class _PersistentManager(JobManager):
    """Reports the end of a job several times if the database does not answer.

    procrastinate reports it once. If that fails, the entry stays in the state "doing" of a live worker, and no worker
    ever takes it again.
    """

    async def finish_job(self, job: QueueEntry, status: Status, delete_job: bool) -> None:
        await _report(lambda: super(_PersistentManager, self).finish_job(job, status, delete_job))

    async def retry_job(self, job: QueueEntry, *arguments: Any, **options: Any) -> None:
        await _report(lambda: super(_PersistentManager, self).retry_job(job, *arguments, **options))


async def _report(send: Callable[[], Awaitable[None]]) -> None:
    for attempt in range(1, _REPORT_ATTEMPTS + 1):
        try:
            await send()
        except ConnectorException:
            if attempt == _REPORT_ATTEMPTS:
                raise
            await asyncio.sleep(_REPORT_DELAY_SECONDS)
        else:
            return


def queue_app(service_login: URL, run_job: RunJob, *, pooled: bool = False) -> procrastinate.App:
    """procrastinate's application, not yet open (`async with app.open_async()`). It calls `run_job` for each job.

    `pooled`: a pooler stands before the server, so no statement is prepared.
    """
    connector = procrastinate.PsycopgConnector(
        conninfo=conninfo(service_login),
        min_size=1,
        max_size=_CONNECTIONS,
        timeout=_CONNECT_SECONDS,
        kwargs={"prepare_threshold": None if pooled else 5},
    )
    app = procrastinate.App(connector=connector)
    app.job_manager = _PersistentManager(connector)

    @app.task(name=TASK, queue=QUEUE, retry=_RetryPostponed())
    async def run(tenant_id: int, number: int) -> None:
        await run_job(tenant_id, number)

    return app


async def work_off(app: procrastinate.App, *, concurrency: int, shutdown_seconds: float, listens: bool = True) -> None:
    """Fetch and run jobs until cancelled. Jobs still running after `shutdown_seconds` go back to the queue.

    `listens`: the server tells about new jobs. A pooler does not pass that on: then the worker asks every POLL_SECONDS.

    Raises ConnectorException if the database does not answer. Call it again then, with a new application: the new
    worker takes over the jobs of the old one.
    """
    work = app.run_worker_async(
        queues=[QUEUE],
        concurrency=concurrency,
        fetch_job_polling_interval=POLL_SECONDS,
        update_heartbeat_interval=HEARTBEAT_SECONDS,
        stalled_worker_timeout=STALLED_SECONDS,
        listen_notify=listens,
        shutdown_graceful_timeout=shutdown_seconds,
        delete_jobs="always",  # the outcome of a job is in its own row
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
    """Queue the jobs of dead workers again, until cancelled."""
    while True:
        for job in await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=STALLED_SECONDS):
            with contextlib.suppress(ConnectorException):  # another worker was first
                await app.job_manager.retry_job_by_id_async(job.id or 0, datetime.now(UTC))
                logger("jobs").info("a job of a lost worker is queued again", **job.task_kwargs)
        await asyncio.sleep(HEARTBEAT_SECONDS)
