"""Input files of jobs, stored in the database so that any worker can read them.

A file is cut into pieces of one mebibyte, one row each. Writer and reader hold one piece in memory at a time.
"""

import asyncio
from typing import Any, BinaryIO

from sqlalchemy import Select, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.quotas import check_at_commit
from service.database.session import tenant_of
from service.jobs.jobs import Job
from service.jobs.tables import job_input

PIECE_BYTES = 1024 * 1024


async def store_input(session: AsyncSession, job: Job, file: BinaryIO) -> int:
    """Store `file`, from its current position to its end, as the input of the job. Returns the number of bytes."""
    check_at_commit(session)
    key = {"tenant_id": tenant_of(session), "job_id": job.number}
    position = size = 0
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        await session.execute(insert(job_input).values(**key, position=position, content=piece))
        position, size = position + 1, size + len(piece)
    return size


async def write_input(session: AsyncSession, job: Job, file: BinaryIO) -> None:
    """Write the input of the job to `file`, and make sure that other handles on the file see it."""
    position = 0
    while (piece := await session.scalar(_select_piece(session, job, position))) is not None:
        await asyncio.to_thread(file.write, piece)
        position += 1
    await asyncio.to_thread(file.flush)


def _select_piece(session: AsyncSession, job: Job, position: int) -> Select[Any]:
    key = job_input.c.tenant_id == tenant_of(session), job_input.c.job_id == job.number
    return select(job_input.c.content).where(*key, job_input.c.position == position)
