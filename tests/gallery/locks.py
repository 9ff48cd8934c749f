"""Lets a test wait until one transaction blocks another, instead of waiting for some time."""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_IS_BLOCKING = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
)


async def until_blocked(holder: AsyncSession, waiting: asyncio.Task[object]) -> None:
    """Return when another connection waits for a lock that the transaction of `holder` holds.

    Fails if the task ends first.
    """
    while not await holder.scalar(_IS_BLOCKING):
        assert not waiting.done(), "the task did not wait"
        await asyncio.sleep(0.01)
