"""Requests whose work is costly are given up when their client leaves: what is not yet begun is never begun."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive


class _Body:
    """Passes the body on, and knows when it has come to its end: only then may someone else listen."""

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
        """Return when the client has left."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def cancel_on_disconnect(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """What `answer` gives; it is canceled where the client leaves after its body was read: ClientDisconnect."""
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
        # In this very task: what the framework opens within it, it closes outside of it.
        return await answer(Request(request.scope, body.receive))
    except asyncio.CancelledError:
        if has_left and answering.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watch.cancel()
