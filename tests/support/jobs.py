"""Waiting for jobs, and files to import."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from service.jobs.jobs import Job, find_job


async def chunks_of(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Return the content in chunks, like an upload."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def finished(session: AsyncSession, job: Job, timeout_seconds: float = 300.0) -> Job:
    """Return the job when it has reached its final state."""
    give_up = time.monotonic() + timeout_seconds
    while time.monotonic() < give_up:
        found = await find_job(session, job.id)
        await session.rollback()
        if found.is_finished:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"the job is still {found.status} after {timeout_seconds} seconds")


def dataset_of(rows: Sequence[tuple[str, Sequence[float]]]) -> bytes:
    """A file of the legacy recognizer's first shape."""
    lines = [f'["{label}", "{",".join(map(repr, values))}"]' for label, values in rows]
    return f"[{', '.join(lines)}]".encode()
