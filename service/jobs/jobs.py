"""Jobs as their tenants see them: what was asked, how far it is, what came of it.

Statuses are queued, running, succeeded and failed. `finish_job` belongs to the transaction of the work itself, so
a job has succeeded exactly when its work is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import CursorResult, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.identifiers import from_text, new_identifier, to_text
from service.database.session import tenant_of
from service.errors import InvalidCursor, InvalidRequest, NotFound, ServiceError
from service.jobs.deferral import defer
from service.jobs.tables import job as job_table
from service.jobs.tables import job_input

Status = Literal["queued", "running", "succeeded", "failed"]
MAXIMUM_PAGE = 1000


@dataclass(frozen=True)
class Job:
    """One job. `total` is None until the work knows how much there is; `error` has slug, title and detail."""

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
        """Whether nothing more will become of it."""
        return self.status in {"succeeded", "failed"}


@dataclass(frozen=True)
class JobPage:
    """Some jobs, newest first, and the cursor of the next page."""

    items: list[Job]
    next_cursor: str | None


_COLUMNS = [column for column in job_table.c if column.name != "tenant_id"]


async def create_job(
    session: AsyncSession, kind: str, arguments: dict[str, Any], *, one_at_a_time: str | None = None
) -> Job:
    """Make a job and queue it, both when the session commits.

    Of the tenant's jobs with the same `one_at_a_time`, one runs at a time, in the order they were made.
    """
    tenant_id, number = tenant_of(session), new_identifier()
    values = {"tenant_id": tenant_id, "id": number, "kind": kind, "arguments": arguments}
    row = (await session.execute(insert(job_table).values(values).returning(*_COLUMNS))).one()
    await defer(session, tenant_id, number, one_at_a_time=one_at_a_time and f"{tenant_id}:{one_at_a_time}")
    return _job(row)


async def find_job(session: AsyncSession, job_id: str) -> Job:
    """The job behind a public id; NotFound where this tenant has none."""
    number = from_text(job_id)
    found = None if number is None else await find_job_number(session, number)
    if found is None:
        raise NotFound(f"there is no job {job_id[:100]!r}")
    return found


async def find_job_number(session: AsyncSession, number: int) -> Job | None:
    """The job of that number, None where it was removed."""
    row = (await session.execute(select(*_COLUMNS).where(*_is(session, number)))).one_or_none()
    return None if row is None else _job(row)


async def list_jobs(session: AsyncSession, limit: int = 100, cursor: str | None = None) -> JobPage:
    """The tenant's jobs, newest first."""
    if not 1 <= limit <= MAXIMUM_PAGE:
        raise InvalidRequest(f"limit is 1 to {MAXIMUM_PAGE}")
    statement = select(*_COLUMNS).where(job_table.c.tenant_id == tenant_of(session))
    if cursor is not None:
        before = from_text(cursor)
        if before is None:
            raise InvalidCursor("the cursor is not one that this list gave")
        statement = statement.where(job_table.c.id < before)
    rows = (await session.execute(statement.order_by(job_table.c.id.desc()).limit(limit + 1))).all()
    items = [_job(row) for row in rows[:limit]]
    return JobPage(items, items[-1].id if len(rows) > limit else None)


async def claim_job(session: AsyncSession, number: int) -> bool:
    """Whether this transaction has the job to itself until it ends; False while another one has."""
    claimed = await session.scalar(text("SELECT pg_try_advisory_xact_lock(:number)"), {"number": number})
    return bool(claimed)


async def begin_attempt(session: AsyncSession, number: int) -> Job | None:
    """Note that a worker begins; in a transaction of its own, so that it is seen and survives a crash."""
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


async def take_back_attempt(session: AsyncSession, number: int) -> None:
    """The worker was asked to stop: the job waits as if it had not been begun."""
    values = {"status": "queued", "attempts": job_table.c.attempts - 1, "done": 0, "total": None}
    await session.execute(update(job_table).where(*_is(session, number), _IS_OPEN).values(values))


async def record_progress(session: AsyncSession, number: int, done: int, total: int | None) -> None:
    """Say how far the work is; in a transaction of its own, so that it is seen."""
    await session.execute(update(job_table).where(*_is(session, number), _IS_OPEN).values(done=done, total=total))


async def finish_job(session: AsyncSession, number: int, result: dict[str, Any]) -> None:
    """Note success in the work's own transaction; the input is no longer needed."""
    values = {"status": "succeeded", "result": result, "error": None, "finished_at": func.clock_timestamp()}
    changed = await session.execute(update(job_table).where(*_is(session, number), _IS_OPEN).values(values))
    if not (isinstance(changed, CursorResult) and changed.rowcount):
        raise NotFound("the job was removed while it ran")
    await _drop_input(session, number)


async def fail_job(session: AsyncSession, number: int, error: ServiceError) -> None:
    """Note failure, after the work's transaction was rolled back."""
    reason = {"slug": error.slug, "title": error.title, "detail": error.detail}
    values = {"status": "failed", "error": reason, "finished_at": func.clock_timestamp()}
    await session.execute(update(job_table).where(*_is(session, number), _IS_OPEN).values(values))
    await _drop_input(session, number)


_IS_OPEN = job_table.c.status.in_(["queued", "running"])


async def _drop_input(session: AsyncSession, number: int) -> None:
    await session.execute(
        delete(job_input).where(job_input.c.tenant_id == tenant_of(session), job_input.c.job_id == number)
    )


def _is(session: AsyncSession, number: int) -> Sequence[Any]:
    return job_table.c.tenant_id == tenant_of(session), job_table.c.id == number


def _job(row: Any) -> Job:
    return Job(to_text(row.id), row.id, **{name: value for name, value in row._mapping.items() if name != "id"})
