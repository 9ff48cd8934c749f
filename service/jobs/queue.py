"""The queue as a worker reads it: procrastinate over psycopg 3.

Every statement here is procrastinate's, except the statement that fetches the next job. The entry of a job is added by
`jobs.create_job`, in the transaction that makes the job's row. An entry holds the numbers of the tenant and the job,
and nothing else of theirs.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import procrastinate
from procrastinate.connector import BaseConnector
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

_REMEMBERED_TENANTS = 1_000
"""A worker remembers the order of this many tenants. A forgotten tenant counts as never served."""

# The statement of procrastinate's function `procrastinate_fetch_job_v2` with another order and one more condition: of
# the jobs that no lock keeps waiting, the next is that of the tenant served longest ago. One statement, because two
# workers may look at the same moment; SKIP LOCKED gives each of them another job. LEFT JOIN: procrastinate's connector
# wants one row, also if there is no job.
_FETCH = """
    WITH candidate AS (
        SELECT jobs.id FROM procrastinate_jobs AS jobs
        WHERE jobs.status = 'todo' AND jobs.queue_name = ANY(%(queues)s::varchar[])
            AND (jobs.scheduled_at IS NULL OR jobs.scheduled_at <= now())
            AND NOT EXISTS (
                SELECT FROM procrastinate_jobs AS other
                WHERE jobs.lock IS NOT NULL AND other.lock = jobs.lock AND (other.status = 'doing' OR (
                    other.status = 'todo' AND (other.priority, -other.id) > (jobs.priority, -jobs.id)))
            )
            AND (
                SELECT count(*) FROM procrastinate_jobs AS running
                WHERE running.status = 'doing' AND running.worker_id = %(worker_id)s
                    AND running.args->>'tenant_id' = jobs.args->>'tenant_id'
            ) < %(most_of_one)s
        ORDER BY array_position(%(served)s::integer[], CAST(jobs.args->>'tenant_id' AS integer)) NULLS FIRST,
            jobs.priority DESC, jobs.id
        LIMIT 1 FOR UPDATE OF jobs SKIP LOCKED
    ), fetched AS (
        UPDATE procrastinate_jobs SET status = 'doing', worker_id = %(worker_id)s
        FROM candidate WHERE procrastinate_jobs.id = candidate.id
        RETURNING procrastinate_jobs.*
    )
    SELECT fetched.id, status, task_name, priority, lock, queueing_lock, args, scheduled_at, queue_name, attempts,
        worker_id
    FROM (VALUES (1)) AS one (row) LEFT JOIN fetched ON true
"""

# The message of procrastinate's trigger for a new job. A worker that found no job looks again only after such a
# message, or after POLL_SECONDS.
_LOOK_AGAIN = "SELECT pg_notify(%(channel)s, json_build_object('type', 'job_inserted', 'job_id', 0)::text)"

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
    """Fetches jobs of the tenants in turn, and reports the end of a job several times if the database does not answer.

    procrastinate fetches the oldest job, so that one tenant's imports would hold up all others, and its priorities are
    fixed when a job is queued. Here the tenant that this worker served longest ago is next, and no tenant has more than
    `most_of_one` jobs in one worker, so that a place stays free for the others.

    procrastinate reports the end once. If that fails, the entry stays in the state "doing" of a live worker, and no
    worker ever takes it again.
    """

    def __init__(self, connector: BaseConnector, most_of_one: int) -> None:
        super().__init__(connector)
        self._most_of_one = most_of_one
        self._served: dict[int, None] = {}
        """The tenants that this worker has served, the one served longest ago first."""
        self._found_none = False
        """Whether the last look found no job that may run."""

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> QueueEntry | None:
        row = await self.connector.execute_query_one_async(
            query=_FETCH,
            queues=list(queues or [QUEUE]),
            worker_id=worker_id,
            served=list(self._served),
            most_of_one=self._most_of_one,
        )
        self._found_none = row is None or row["id"] is None
        if self._found_none:
            return None
        job = QueueEntry.from_row(row)
        self._note_served(int(str(job.task_kwargs["tenant_id"])))
        return job

    def _note_served(self, tenant_id: int) -> None:
        self._served.pop(tenant_id, None)
        self._served[tenant_id] = None
        while len(self._served) > _REMEMBERED_TENANTS:
            del self._served[next(iter(self._served))]

    async def finish_job(self, job: QueueEntry, status: Status, delete_job: bool) -> None:
        await _report(lambda: super(_PersistentManager, self).finish_job(job, status, delete_job))
        if self._found_none:  # the tenant's next job, or the next job with the same lock, may run now
            with contextlib.suppress(ConnectorException):
                await self.connector.execute_query_async(_LOOK_AGAIN, channel=f"procrastinate_queue_v1#{QUEUE}")

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


def queue_app(service_login: URL, run_job: RunJob, most_of_one: int, *, pooled: bool = False) -> procrastinate.App:
    """procrastinate's application, not yet open (`async with app.open_async()`). It calls `run_job` for each job, for
    at most `most_of_one` jobs of one tenant at a time.

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
    app.job_manager = _PersistentManager(connector, most_of_one)

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
