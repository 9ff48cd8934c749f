"""Jobs as their tenants see them: what was requested, the progress and the outcome.

A job is queued, running, succeeded or failed. `finish_job` runs in the transaction of the work itself, so a job has
succeeded exactly if its work is stored.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import CursorResult, Row, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.database.identifiers import from_text, new_identifier, to_text
from service.database.pagination import Cursor, Page, check_limit
from service.database.session import tenant_of, tenant_session
from service.errors import NotFound, ServiceError
from service.jobs.tables import job as job_table
from service.jobs.tables import job_input

QUEUE = "jobs"
TASK = "run_job"
"""Names of procrastinate's queue and task: every job enters the same ones."""
PROGRESS_SECONDS = 0.5
"""Shortest time between two records of a job's progress."""

Status = Literal["queued", "running", "succeeded", "failed"]

_COLUMNS = [column for column in job_table.c if column.name != "tenant_id"]
_IS_UNFINISHED = job_table.c.status.in_(["queued", "running"])
_CLAIM = text("SELECT pg_try_advisory_xact_lock(:number)")
# A function of procrastinate's schema. It is called here, and not through procrastinate's client, because the client
# has a connection of its own: the entry could then exist without the job's row, or the row without the entry.
_ADD_TO_QUEUE = text(
    """SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
        CAST(:queue AS varchar), CAST(:task AS varchar), 0, CAST(:lock AS text), NULL,
        jsonb_build_object('tenant_id', CAST(:tenant_id AS integer), 'number', CAST(:number AS bigint)), NULL
    )]::procrastinate_job_to_defer_v1[])"""
)


@dataclass(frozen=True)
class Job:
    """One job. `total` is None until the work knows it; `error` has slug, title and detail."""

    id: str
    number: int
    kind: str
    arguments: dict[str, Any]
    status: Status
    done: int
    total: int | None
    attempts: int
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def is_finished(self) -> bool:
        """Whether the job has succeeded or failed."""
        return self.status in {"succeeded", "failed"}


class JobProgress:
    """Records the progress of one job while the transaction of its work is still open.

    Call it with (done, total) as often as you like: it writes at most twice a second, and always for done = total.
    """

    def __init__(self, engine: AsyncEngine, tenant_id: int, number: int) -> None:
        self._engine = engine
        self._tenant_id = tenant_id
        self._number = number
        self._written_at = 0.0

    async def __call__(self, done: int, total: int | None) -> None:
        """Record the progress in a transaction of its own, so that other sessions see it."""
        now = time.monotonic()
        if now - self._written_at < PROGRESS_SECONDS and done != total:
            return
        self._written_at = now
        async with tenant_session(self._engine, self._tenant_id) as session, session.begin():
            await record_progress(session, self._number, done, total)


async def create_job(
    session: AsyncSession, kind: str, arguments: dict[str, Any], *, one_at_a_time: str | None = None
) -> Job:
    """Make a job and add it to the queue, both when the session commits.

    Jobs of the tenant with the same `one_at_a_time` run one at a time, in the order they were made.
    """
    tenant_id, number = tenant_of(session), new_identifier()
    values = {"tenant_id": tenant_id, "id": number, "kind": kind, "arguments": arguments}
    row = (await session.execute(insert(job_table).values(values).returning(*_COLUMNS))).one()
    lock = None if one_at_a_time is None else f"{tenant_id}:{one_at_a_time}"
    entry = {"queue": QUEUE, "task": TASK, "lock": lock, "tenant_id": tenant_id, "number": number}
    await session.execute(_ADD_TO_QUEUE, entry)
    return _job(row)


async def find_job(session: AsyncSession, job_id: str) -> Job:
    """The job of a public id. Raises NotFound if the tenant has no such job."""
    number = from_text(job_id)
    job = None if number is None else await find_job_number(session, number)
    if job is None:
        raise NotFound(f"there is no job {job_id[:100]!r}")
    return job


async def find_job_number(session: AsyncSession, number: int) -> Job | None:
    """The job of that number, None if it was removed."""
    row = (await session.execute(select(*_COLUMNS).where(*_is(session, number)))).one_or_none()
    return None if row is None else _job(row)


async def list_jobs(session: AsyncSession, limit: int = 100, cursor: str | None = None) -> Page[Job]:
    """The tenant's jobs, newest first."""
    cursors = Cursor("jobs", tenant_of(session))
    statement = select(*_COLUMNS).where(job_table.c.tenant_id == tenant_of(session))
    if before := cursors.after(cursor):
        statement = statement.where(job_table.c.id < before)
    statement = statement.order_by(job_table.c.id.desc()).limit(check_limit(limit) + 1)
    jobs = [_job(row) for row in await session.execute(statement)]
    return cursors.page(jobs, [job.number for job in jobs], limit)


async def claim_job(session: AsyncSession, number: int) -> bool:
    """Lock the job until this transaction ends. Returns False if another transaction holds the lock.

    procrastinate hands a job out twice if a worker was silent for too long. The lock ends with the connection, so it
    tells a slow worker, which still has the job, from a dead one.
    """
    return bool(await session.scalar(_CLAIM, {"number": number}))


async def begin_attempt(session: AsyncSession, number: int) -> Job | None:
    """Record that a worker starts the job; None if the job was removed.

    Commit this in a transaction of its own: others see it, and the number of attempts survives a crash of the worker.
    """
    values = {
        "status": "running",
        "attempts": job_table.c.attempts + 1,
        "started_at": func.coalesce(job_table.c.started_at, func.now()),
        "done": 0,
        "total": None,
    }
    statement = update(job_table).where(*_is(session, number)).values(values).returning(*_COLUMNS)
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else _job(row)


async def take_back_attempt(session: AsyncSession, number: int, attempts: int) -> None:
    """Record that a worker was asked to stop, or lost the database: the job waits as if the attempt had not begun.

    `attempts` is the number of this attempt. If another one has begun since, nothing changes.
    """
    values = {"status": "queued", "attempts": job_table.c.attempts - 1, "done": 0, "total": None}
    condition = *_is(session, number), _IS_UNFINISHED, job_table.c.attempts == attempts
    await session.execute(update(job_table).where(*condition).values(values))


async def record_progress(session: AsyncSession, number: int, done: int, total: int | None) -> None:
    """Record the progress of an unfinished job. `JobProgress` does it in a transaction of its own."""
    await session.execute(update(job_table).where(*_is(session, number), _IS_UNFINISHED).values(done=done, total=total))


async def finish_job(session: AsyncSession, number: int, result: dict[str, Any]) -> None:
    """Record success in the transaction of the work, and delete the input.

    Raises NotFound if the job was removed while it ran: then the work must not be committed either.
    """
    values = {"status": "succeeded", "result": result, "error": None, "finished_at": func.clock_timestamp()}
    changed = await session.execute(update(job_table).where(*_is(session, number), _IS_UNFINISHED).values(values))
    if not (isinstance(changed, CursorResult) and changed.rowcount):
        raise NotFound("the job was removed while it ran")
    await _delete_input(session, number)


async def fail_job(session: AsyncSession, number: int, error: ServiceError) -> None:
    """Record failure after the transaction of the work was rolled back, and delete the input."""
    reason = {"slug": error.slug, "title": error.title, "detail": error.detail}
    values = {"status": "failed", "error": reason, "finished_at": func.clock_timestamp()}
    await session.execute(update(job_table).where(*_is(session, number), _IS_UNFINISHED).values(values))
    await _delete_input(session, number)


async def delete_finished_jobs(session: AsyncSession, age: timedelta) -> int:
    """Delete the tenant's jobs that finished longer ago than `age`. Returns their number."""
    old = job_table.c.finished_at < func.now() - age
    deleted = await session.execute(
        delete(job_table).where(job_table.c.tenant_id == tenant_of(session), ~_IS_UNFINISHED, old)
    )
    return deleted.rowcount if isinstance(deleted, CursorResult) else 0


async def _delete_input(session: AsyncSession, number: int) -> None:
    await session.execute(
        delete(job_input).where(job_input.c.tenant_id == tenant_of(session), job_input.c.job_id == number)
    )


def _is(session: AsyncSession, number: int) -> Sequence[Any]:
    return job_table.c.tenant_id == tenant_of(session), job_table.c.id == number


def _job(row: Row[Any]) -> Job:
    return Job(to_text(row.id), row.id, **{name: value for name, value in row._mapping.items() if name != "id"})
