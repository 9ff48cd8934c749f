"""The work of disconnected clients is stopped."""

import asyncio

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message

from service.http.disconnects import cancel_on_disconnect

WAIT_SECONDS = 300.0
"""How long a test waits for a state before it fails. No test asks how soon the state comes."""


def request_of(messages: "asyncio.Queue[Message]") -> Request:
    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, messages.get)


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


async def test_the_work_is_canceled_when_the_client_disconnects() -> None:
    messages: asyncio.Queue[Message] = asyncio.Queue()
    working, given_up = asyncio.Event(), asyncio.Event()

    async def work(request: Request) -> Response:
        assert await request.body() == b"a picture"
        working.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        raise AssertionError

    answering = asyncio.create_task(cancel_on_disconnect(request_of(messages), work))
    messages.put_nowait(body(b"a ", more=True))
    messages.put_nowait(body(b"picture"))
    await asyncio.wait_for(working.wait(), WAIT_SECONDS)
    messages.put_nowait({"type": "http.disconnect"})
    with pytest.raises(ClientDisconnect):
        await asyncio.wait_for(answering, WAIT_SECONDS)
    assert given_up.is_set()


async def test_a_connected_client_is_answered() -> None:
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait(body(b"a picture"))

    async def work(request: Request) -> Response:
        return Response(await request.body())

    answer = await asyncio.wait_for(cancel_on_disconnect(request_of(messages), work), WAIT_SECONDS)
    assert answer.body == b"a picture"


async def test_an_error_of_the_work_is_raised() -> None:
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait(body(b""))

    async def work(request: Request) -> Response:
        raise ValueError(await request.body())

    with pytest.raises(ValueError, match="b''"):
        await asyncio.wait_for(cancel_on_disconnect(request_of(messages), work), WAIT_SECONDS)
