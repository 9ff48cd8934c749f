"""Readiness of the database, checked at most once a second."""

import asyncio
import time

from service.database.logins import Logins
from service.database.schema.migrate import SchemaState, schema_state

ASKED_EVERY_SECONDS = 1.0


class Readiness:
    """Caches the state for a second. One caller checks, the others wait for the same result."""

    def __init__(self, logins: Logins) -> None:
        self._logins = logins
        self._lock = asyncio.Lock()
        self._known: tuple[float, SchemaState] | None = None

    async def state(self) -> SchemaState:
        """The state of the database. Raises DatabaseUnavailable if it does not answer."""
        async with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > ASKED_EVERY_SECONDS:
                self._known = None
                state = await asyncio.to_thread(schema_state, self._logins)
                self._known = time.monotonic(), state
            return self._known[1]
