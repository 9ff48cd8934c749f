"""How far a job is, told while its own transaction is still open."""

import time

from sqlalchemy.ext.asyncio import AsyncEngine

from service.database.session import tenant_session
from service.jobs.jobs import record_progress

INTERVAL_SECONDS = 0.5


class JobProgress:
    """Call it as often as you like with (done, total): it writes at most twice a second, and the last one always."""

    def __init__(self, engine: AsyncEngine, tenant_id: int, number: int) -> None:
        self._engine = engine
        self._tenant_id = tenant_id
        self._number = number
        self._written_at = 0.0

    async def __call__(self, done: int, total: int | None) -> None:
        """Record the progress in a transaction of its own."""
        now = time.monotonic()
        if now - self._written_at < INTERVAL_SECONDS and done != total:
            return
        self._written_at = now
        async with tenant_session(self._engine, self._tenant_id) as session, session.begin():
            await record_progress(session, self._number, done, total)
