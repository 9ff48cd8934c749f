"""An answer that is sent before the request has arrived reaches its client, with and without keep-alive."""

import asyncio
import contextlib
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.http import connections
from service.http.connection_limits import ConnectionLimits
from tests.support.connections import served
from tests.support.waiting import GUARD_SECONDS, until

Running = tuple[uvicorn.Server, int]
BODY_BYTES = 8_000_000
HEADS = {
    "HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES,
    "close": b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES,
    "keep-alive": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES,
    "chunked": b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n7a1200\r\n",
    "no HTTP": b"POST / HTTP/1.1\r\nHost: a\r\nHeader without a colon\r\n\r\n",
}


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


def running(limits: ConnectionLimits | None = None, **options: Any) -> AbstractAsyncContextManager[Running]:
    """A server that refuses every request before it reads the body, and its port."""
    return served(_refuse, limits or ConnectionLimits(most=100, most_per_address=100), **options)


async def answer_to(port: int, head: bytes) -> bytes:
    """Send the head and the whole body, and only then read the answer until its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(head)
        for _ in range(BODY_BYTES // 16_000):
            writer.write(b"x" * 16_000)
            await writer.drain()
        return await reader.read() if b"HTTP/1.0" in head or b"close" in head else await reader.read(200)


@pytest.mark.parametrize("kind", HEADS)
async def test_a_client_that_sends_first_and_reads_later_gets_the_answer(kind: str) -> None:
    async with running() as (_, port):
        for _ in range(5):
            status = b"HTTP/1.1 400" if kind == "no HTTP" else b"HTTP/1.1 401"
            assert (await answer_to(port, HEADS[kind])).startswith(status)


async def test_a_client_that_stops_sending_does_not_hold_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.05)
    async with running() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADS["close"] + b"x")
        assert (await reader.read()).endswith(b"no")  # the end of the answer comes before the end of the connection
        await until(lambda: _has_no_connection(server))
        writer.close()


async def test_a_client_that_never_stops_sending_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", GUARD_SECONDS)
    monkeypatch.setattr(connections, "LINGER_BYTES", 1_000_000)
    async with running() as (server, port):
        with pytest.raises(ConnectionError):
            await answer_to(port, HEADS["close"])
        assert await _has_no_connection(server)


async def test_a_stopping_server_does_not_wait_for_the_rest_of_a_refused_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", GUARD_SECONDS)
    async with running() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEADS["close"] + b"x")
        await reader.read()
    writer.close()


async def _has_no_connection(server: uvicorn.Server) -> bool:
    return not server.server_state.connections
