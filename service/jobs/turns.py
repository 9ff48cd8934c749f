"""Turns of the jobs in one worker: they run side by side, except a job that was running when a worker was lost.

Such a job may be what ended the worker: it may need too much memory, or crash a library. Beside it another job would be
lost with the worker again, and fail for nothing. So it runs alone.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Turns:
    """Counts the running jobs."""

    def __init__(self) -> None:
        self._gate = asyncio.Lock()
        self._running = 0
        self._all_done = asyncio.Event()
        self._all_done.set()

    @contextlib.asynccontextmanager
    async def taken(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait for the turn, in the order of arrival. No other job runs in the block if it is `alone`."""
        if alone:
            async with self._gate:
                await self._all_done.wait()
                yield
            return
        async with self._gate:
            self._running += 1
            self._all_done.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._all_done.set()
