"""The work of disconnected clients is stopped."""

import asyncio

import pytest
from fastapi import FastAPI, Request
from sqlalchemy import text
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message

from service.database.connection import Database
from service.database.statements import fetch_rows
from service.http.disconnects import cancel_on_disconnect
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession
from tests.support.server import MakeClient
from tests.support.waiting import until

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


async def test_a_request_without_a_body_is_canceled_too() -> None:
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait(body(b""))
    working = asyncio.Event()

    async def work(_: Request) -> Response:
        working.set()
        await asyncio.Event().wait()
        raise AssertionError

    answering = asyncio.create_task(cancel_on_disconnect(request_of(messages), work))
    await asyncio.wait_for(working.wait(), WAIT_SECONDS)
    messages.put_nowait({"type": "http.disconnect"})
    with pytest.raises(ClientDisconnect):
        await asyncio.wait_for(answering, WAIT_SECONDS)


async def test_an_empty_body_that_the_watch_received_is_passed_on() -> None:
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait(body(b""))

    async def work(request: Request) -> Response:
        while not messages.empty():  # noqa: ASYNC110 - the watch takes the message after a moment
            await asyncio.sleep(0.01)
        return Response(await request.body())

    answer = await asyncio.wait_for(cancel_on_disconnect(request_of(messages), work), WAIT_SECONDS)
    assert answer.body == b""


async def test_the_statement_of_a_client_that_left_is_stopped(
    application: FastAPI, database: Database, make_client: MakeClient, tenant_id: int
) -> None:
    """A request with JSON, whose route waits for the database in one of the two ways to run a statement."""
    router = keyed_router("/test/slow", "test")

    @router.post("/one")
    @needs("read")
    async def one(session: RequestSession) -> None:
        await session.execute(text("SELECT pg_sleep(3600), 'of a client that left'"))

    @router.post("/two")
    @needs("read")
    async def two(session: RequestSession) -> None:
        await fetch_rows(session, "SELECT pg_sleep(3600), 'of a client that left'", {})

    application.include_router(router)
    key = (await make_client(tenant_id)).headers["x-api-key"]
    for path in ("/test/slow/one", "/test/slow/two"):
        messages: asyncio.Queue[Message] = asyncio.Queue()
        messages.put_nowait(body(b""))
        sent: list[Message] = []

        async def send(message: Message, sent: list[Message] = sent) -> None:
            sent.append(message)

        headers = [(b"x-api-key", key.encode())]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        answering = asyncio.create_task(application(dict(scope), messages.get, send))
        await until(lambda: is_sleeping(database))
        messages.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(answering, WAIT_SECONDS)
        assert sent == []

        async def has_stopped() -> bool:
            return not await is_sleeping(database)

        await until(has_stopped)


async def is_sleeping(database: Database) -> bool:
    """Whether the server runs a statement of the test above."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
        " AND query LIKE '%of a client that left%'"
    )
    async with database.engine.connect() as connection:
        return bool(await connection.scalar(text(query)))
