"""Heads that another program could read differently are refused, with the security headers and a problem."""

import asyncio
import contextlib

import h11
import pytest

from service.http.connections import MAXIMUM_HEAD_BYTES
from service.http.strict_parser import StrictParser
from tests.http.test_refusals_arrive import running
from tests.support.waiting import GUARD_SECONDS

LONG = b"a" * 70_000
REFUSED = {
    "bare line feed": (b"GET / HTTP/1.1\nHost: a\n\n", b"400"),
    "one bare line feed": (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", b"400"),
    "bare carriage return": (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", b"400"),
    "folded line": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", b"400"),
    "folded with a tab": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n", b"400"),
    "long request line": (b"GET /" + LONG + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"431"),
    "long header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + LONG + b"\r\n\r\n", b"431"),
    "no HTTP": (b"hello\r\n\r\n", b"400"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", b"400"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_head_that_is_not_strict_is_refused(kind: str) -> None:
    request, status = REFUSED[kind]
    async with running() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(request)
            async with asyncio.timeout(GUARD_SECONDS):
                answer = (await reader.read()).lower()
    assert answer.startswith(b"http/1.1 " + status), answer[:100]
    for header in (b"x-content-type-options: nosniff", b"cache-control: no-store", b"connection: close"):
        assert b"\r\n" + header + b"\r\n" in answer
    assert b'"type":"urn:face-identity:' in answer


def test_a_loose_line_is_refused_before_the_head_is_complete() -> None:
    parser = StrictParser(MAXIMUM_HEAD_BYTES)
    parser.receive_data(b"GET / HTTP/1.1\r\nHost: a\n")
    with pytest.raises(h11.RemoteProtocolError):
        parser.next_event()


def test_a_strict_head_is_taken_in_any_pieces() -> None:
    parser = StrictParser(MAXIMUM_HEAD_BYTES)
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for position in range(len(head) - 1):
        parser.receive_data(head[position : position + 1])
        assert parser.next_event() is h11.NEED_DATA
    parser.receive_data(head[-1:])
    assert isinstance(parser.next_event(), h11.Request)


def test_the_body_behind_a_head_may_have_any_bytes() -> None:
    parser = StrictParser(MAXIMUM_HEAD_BYTES)
    parser.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 80000\r\n\r\n" + b"\n " * 40_000)
    assert isinstance(parser.next_event(), h11.Request)
    assert isinstance(parser.next_event(), h11.Data)
