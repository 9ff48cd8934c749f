"""How a job enters the queue: in the transaction that makes the job's row, so neither is there without the other.

The queue holds a tenant's and a job's number and nothing else of theirs.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

QUEUE = "jobs"
TASK = "run_job"

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
