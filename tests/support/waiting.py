"""Waiting for states. No test asks how soon a state comes."""

import asyncio
import time
from collections.abc import Awaitable, Callable

GUARD_SECONDS = 300.0
"""Ends a test that would hang. No machine is so slow that a state takes this long."""


async def until(is_reached: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again, until the answer is true."""
    async with asyncio.timeout(GUARD_SECONDS):
        while not await is_reached():  # noqa: ASYNC110 - the states are those of a database or another process
            await asyncio.sleep(0.02)


def wait_until(is_reached: Callable[[], object], description: Callable[[], str] = lambda: "") -> None:
    """Ask again and again, until the answer is true. `description` says what went wrong if it never is."""
    deadline = time.monotonic() + GUARD_SECONDS
    while not is_reached():
        assert time.monotonic() < deadline, description()
        time.sleep(0.02)
