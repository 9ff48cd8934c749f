"""Waiting for jobs, and files to import."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from service.identity.import_job import ArrivingFile
from service.jobs.jobs import Job, find_job
from tests.support.waiting import GUARD_SECONDS


async def chunks_of(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Return the content in chunks, like an upload."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


def arriving(pieces: AsyncIterator[bytes], limit_bytes: int) -> ArrivingFile:
    """A file whose client has not told its length."""
    return ArrivingFile(pieces, limit_bytes, 0)


async def job_when(session: AsyncSession, job: Job, is_reached: Callable[[Job], object]) -> Job:
    """Return the job when it has reached a state. The session is rolled back."""
    async with asyncio.timeout(GUARD_SECONDS):
        while True:
            current = await find_job(session, job.id)
            await session.rollback()
            if is_reached(current):
                return current
            await asyncio.sleep(0.02)


async def finished(session: AsyncSession, job: Job) -> Job:
    """Return the job when it has reached its final state. The session is rolled back."""
    return await job_when(session, job, lambda current: current.is_finished)


def dataset_of(rows: Sequence[tuple[str, Sequence[float]]]) -> bytes:
    """A file of the format `dataset`."""
    lines = [f'["{label}", "{",".join(map(repr, values))}"]' for label, values in rows]
    return f"[{', '.join(lines)}]".encode()
