"""Limits of open connections: a silent crowd keeps nobody out, and health answers when everything is busy."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from service.http.connection_limits import RESERVED_CONNECTIONS, ConnectionLimits
from service.http.request_log import RequestMiddleware
from tests.support.connections import served
from tests.support.waiting import GUARD_SECONDS, until

CROWD = 20
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
WORK = b"GET /work HTTP/1.1\r\nHost: a\r\n\r\n"


class Named:
    """A connection that only remembers whether it was closed for another one."""

    def __init__(self) -> None:
        self.is_closed = False

    def close_for_another(self) -> None:
        self.is_closed = True


def entered(limits: ConnectionLimits, host: str | None, count: int) -> list[Named]:
    """New connections of one host that have places."""
    connections = [Named() for _ in range(count)]
    assert all(limits.enter(each, host) for each in connections)
    return connections


def test_the_oldest_silent_connection_leaves_first_and_kept_ones_after_all_silent_ones() -> None:
    limits = ConnectionLimits(most=3, most_per_address=3)
    kept, first, second = entered(limits, "192.0.2.1", 3)
    limits.begin_request(kept)
    limits.end_request(kept)
    entered(limits, "192.0.2.2", 1)
    assert [each.is_closed for each in (kept, first, second)] == [False, True, False]
    entered(limits, "192.0.2.3", 2)
    assert [each.is_closed for each in (kept, first, second)] == [False, True, True]


def test_one_address_pushes_out_its_own_connections_only() -> None:
    limits = ConnectionLimits(most=10, most_per_address=2)
    (other,) = entered(limits, "192.0.2.9", 1)
    crowd = entered(limits, "192.0.2.1", 5)
    assert [each.is_closed for each in crowd] == [True, True, True, False, False]
    assert not other.is_closed


def test_an_address_whose_connections_are_all_busy_is_refused() -> None:
    limits = ConnectionLimits(most=10, most_per_address=2)
    for each in entered(limits, "192.0.2.1", 2):
        limits.begin_request(each)
    assert not limits.enter(Named(), "192.0.2.1")
    assert limits.enter(Named(), "192.0.2.2")


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_address_is_counted_as_its_client_can_choose_it(first: str, second: str, is_same: bool) -> None:
    limits = ConnectionLimits(most=10, most_per_address=1)
    (one,) = entered(limits, first, 1)
    entered(limits, second, 1)
    assert one.is_closed == is_same


@pytest.mark.parametrize("host", ["10.1.2.3", None])
def test_a_proxy_and_a_unix_socket_have_no_limit_of_their_own(host: str | None) -> None:
    limits = ConnectionLimits(most=10, most_per_address=1, uncounted=["10.0.0.0/8"])
    assert not any(each.is_closed for each in entered(limits, host, 10))


def test_a_limit_forgets_everything_of_closed_connections() -> None:
    limits = ConnectionLimits(most=10, most_per_address=10)
    for each in entered(limits, "192.0.2.1", 3):
        limits.leave(each)
        limits.leave(each)
    assert (len(limits), limits._of_address, limits._all.count, limits._all.silent) == (0, {}, 0, {})


class Work:
    """An application: `/work` waits until `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/work":
            self.begun += 1
            await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def running(limits: ConnectionLimits) -> AsyncIterator[tuple[Work, int]]:
    """A server with these limits, and its port."""
    work = Work()
    async with served(RequestMiddleware(work), limits) as (_, port):
        try:
            yield work, port
        finally:
            work.go_on.set()


@contextlib.asynccontextmanager
async def crowd(port: int, count: int, request: bytes = b"") -> AsyncIterator[None]:
    """That many connections, each with the request and without reading the answer."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(request)
        yield


async def answer_to(port: int, request: bytes) -> bytes:
    """The beginning of the answer on a new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(request)
        async with asyncio.timeout(GUARD_SECONDS):
            return await reader.read(4096)


@pytest.mark.parametrize(("most", "most_per_address"), [(CROWD // 2, 1000), (1000, CROWD // 2)])
async def test_a_silent_crowd_keeps_nobody_out(most: int, most_per_address: int) -> None:
    limits = ConnectionLimits(most, most_per_address)
    async with running(limits) as (_, port), crowd(port, CROWD), crowd(port, CROWD, b"GET /healthz HTTP/1.1\r\nX: "):
        assert (await answer_to(port, HEALTH)).startswith(b"HTTP/1.1 200")
        assert (await answer_to(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert len(limits) <= CROWD // 2


async def test_health_is_answered_when_every_connection_is_busy_and_everything_else_is_refused() -> None:
    limits = ConnectionLimits(most=CROWD, most_per_address=1000)
    async with running(limits) as (work, port), crowd(port, CROWD, WORK):
        await until(functools.partial(_all_begun, work))
        assert (await answer_to(port, HEALTH)).startswith(b"HTTP/1.1 200")
        refused = (await answer_to(port, WORK)).lower()
        assert refused.startswith(b"http/1.1 503")
        for part in (b"urn:face-identity:too-many-connections", b"retry-after: 1", b"connection: close"):
            assert part in refused
        assert b"\r\nx-content-type-options: nosniff\r\n" in refused


async def test_silent_connections_cannot_fill_the_reserve() -> None:
    limits = ConnectionLimits(most=CROWD, most_per_address=1000)
    async with running(limits) as (work, port), crowd(port, CROWD, WORK):
        await until(functools.partial(_all_begun, work))
        async with crowd(port, 2 * RESERVED_CONNECTIONS):
            assert (await answer_to(port, HEALTH)).startswith(b"HTTP/1.1 200")


async def test_a_busy_address_is_refused_with_the_security_headers() -> None:
    limits = ConnectionLimits(most=1000, most_per_address=CROWD)
    async with running(limits) as (work, port), crowd(port, CROWD, WORK):
        await until(functools.partial(_all_begun, work))
        refused = (await answer_to(port, b"")).lower()
        assert refused.startswith(b"http/1.1 503")
        assert b"\r\nx-content-type-options: nosniff\r\n" in refused


async def _all_begun(work: Work) -> bool:
    return work.begun == CROWD
