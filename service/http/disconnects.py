"""Cancels the work of a request when its client disconnects: running statements are stopped, other steps never begin.

A request that is answered within a moment costs a timer and nothing else. Only a longer one gets a task that waits for
the disconnection.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive

UNWATCHED_SECONDS = 0.05
"""Work that ends within this time is not worth canceling."""


class _Body:
    """Passes the body on, and knows when it has ended. Only then may another task receive messages."""

    def __init__(self, request: Request) -> None:
        self._receive: Receive = request.receive
        self._early: Message | None = None
        """The only message of an empty body, if the watch received it before the route asked for it."""
        self._ended = asyncio.Event()
        self._is_empty = not (
            "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"
        )

    async def receive(self) -> Message:
        """The next message of the client."""
        if self._early is not None:
            message, self._early = self._early, None
            return message
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._ended.set()
        return message

    async def left(self) -> None:
        """Return when the client has disconnected."""
        if not self._is_empty:
            await self._ended.wait()
        while (message := await self._receive())["type"] != "http.disconnect":
            if not self._ended.is_set():
                self._early = message


async def cancel_on_disconnect(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """The result of `answer`, canceled with ClientDisconnect if the client disconnects after its body was read."""
    body = _Body(request)
    answering = cast(asyncio.Task[object], asyncio.current_task())
    has_left = False
    watch: asyncio.Task[None] | None = None

    async def cancel_when_left() -> None:
        nonlocal has_left
        await body.left()
        has_left = True
        answering.cancel()

    def begin_to_watch() -> None:
        nonlocal watch
        watch = asyncio.create_task(cancel_when_left())

    timer = asyncio.get_running_loop().call_later(UNWATCHED_SECONDS, begin_to_watch)
    try:
        # In this task, not in a new one: the framework closes outside of it what it opens within it.
        return await answer(Request(request.scope, body.receive))
    except asyncio.CancelledError:
        if has_left and answering.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        if watch is not None:
            watch.cancel()
