"""Cancels costly requests when their client disconnects: steps that have not begun never begin."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive


class _Body:
    """Passes the body on, and knows when it has ended. Only then may another task receive messages."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = asyncio.Event()

    async def receive(self) -> Message:
        """The next message of the client."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._ended.set()
        return message

    async def left(self) -> None:
        """Return when the client has disconnected."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def cancel_on_disconnect(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """The result of `answer`, canceled with ClientDisconnect if the client disconnects after its body was read."""
    body = _Body(request.receive)
    answering = cast(asyncio.Task[object], asyncio.current_task())
    has_left = False

    async def cancel_when_left() -> None:
        nonlocal has_left
        await body.left()
        has_left = True
        answering.cancel()

    watch = asyncio.create_task(cancel_when_left())
    try:
        # In this task, not in a new one: the framework closes outside of it what it opens within it.
        return await answer(Request(request.scope, body.receive))
    except asyncio.CancelledError:
        if has_left and answering.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watch.cancel()
