"""One request, one transaction: successful answers are stored, and failed requests leave nothing."""

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from service.access.authentication import Caller
from service.database.connection import Database, open_pool
from service.database.session import tenant_session
from service.errors import TooManyRequests
from service.gallery.galleries import create_gallery
from service.http.routes import keyed_router, needs
from service.http.sessions import RequestSession, answer_and_commit, reading_session
from service.http.state import STREAMS_OF_A_TENANT
from tests.support.server import open_client

# Refuses a gallery of this name, but only when the transaction is committed.
REFUSED = f"refused-at-commit-{uuid.uuid4().hex[:8]}"
TRIGGER = f"""
CREATE FUNCTION refuse_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.name = '{REFUSED}' THEN RAISE EXCEPTION 'the commit of {REFUSED} fails'; END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER refuse_at_commit AFTER INSERT ON gallery
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_at_commit();
"""


@pytest.fixture
async def failing_commit(database: Database) -> AsyncIterator[str]:
    """A deferred database constraint that one gallery name violates."""
    engine = create_async_engine(database.logins.administrator)
    async with engine.begin() as connection:
        for statement in TRIGGER.split(";\nCREATE CONSTRAINT"):
            await connection.execute(text(("" if "FUNCTION" in statement[:20] else "CREATE CONSTRAINT") + statement))
    yield REFUSED
    async with engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER refuse_at_commit ON gallery"))
        await connection.execute(text("DROP FUNCTION refuse_at_commit"))
    await engine.dispose()


async def test_a_commit_that_fails_is_answered_500_and_not_201(client: httpx.AsyncClient, failing_commit: str) -> None:
    answer = await client.post("/v1/galleries", json={"name": failing_commit})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:face-identity:internal-error")
    assert "commit" not in answer.text
    assert (await client.get(f"/v1/galleries/{failing_commit}")).status_code == 404
    assert (await client.post("/v1/galleries", json={"name": "another"})).status_code == 201


async def test_the_writes_of_a_failing_route_are_rolled_back(application: FastAPI, client: httpx.AsyncClient) -> None:
    router = keyed_router("/test", "test")

    @router.post("/broken")
    @needs("enroll")
    async def broken(session: RequestSession) -> None:
        await create_gallery(session, "half-written", application.state.server_state.encoders.default)
        raise RuntimeError("secret-of-the-inside")

    application.include_router(router)
    answer = await client.post("/test/broken")
    application.router.routes.pop()
    assert answer.status_code == 500
    assert "secret-of-the-inside" not in answer.text
    assert (await client.get("/v1/galleries/half-written")).status_code == 404


async def test_a_route_without_a_scope_cannot_be_made() -> None:
    async def careless() -> None: ...

    with pytest.raises(TypeError, match="careless"):
        keyed_router("/test", "test").get("/careless")(careless)


async def test_an_unavailable_database_is_answered_503_with_retry_after(
    application: FastAPI, database: Database
) -> None:
    """The request has a key of the right format: only the database could tell whether it is valid."""
    away = application.state.server_state.database.engine
    from service.access.key_format import new_key

    async with open_client(application, new_key(1)) as client:
        application.state.server_state.database.engine = create_async_engine(
            database.logins.service.set(host="127.0.0.1", port=1, query={})
        )
        answer = await client.get("/v1/galleries")
        application.state.server_state.database.engine = away
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:face-identity:database-unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "127.0.0.1" not in answer.text


TURNS = 10_000


@pytest.fixture
async def single(database: Database) -> AsyncIterator[AsyncEngine]:
    """A pool of one connection."""
    engine = open_pool(database.logins.service, 1)
    yield engine
    await engine.dispose()


def request_with(session: AsyncSession) -> Request:
    """A request whose route has opened this session."""
    request = Request({"type": "http"})
    request.state.session = session
    return request


async def backend_of(session: AsyncSession) -> int:
    """The server process behind the session's connection."""
    return int((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def test_a_failed_request_returns_its_connection_at_once(single: AsyncEngine, tenant_id: int) -> None:
    session = tenant_session(single, tenant_id)

    async def fail() -> Response:
        await backend_of(session)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await answer_and_commit(request_with(session), fail())
    assert not session.in_transaction()


async def test_a_request_canceled_during_its_rollback_keeps_the_connection_usable(
    single: AsyncEngine, tenant_id: int
) -> None:
    """A connection that is interrupted during its rollback would be thrown away, and the pool would open another."""
    session, working, backends = tenant_session(single, tenant_id), asyncio.Event(), []

    async def work() -> Response:
        backends.append(await backend_of(session))
        working.set()
        await asyncio.Event().wait()
        raise AssertionError

    answering = asyncio.create_task(answer_and_commit(request_with(session), work()))
    await asyncio.wait_for(working.wait(), 300)
    answering.cancel()
    for _ in range(TURNS):
        if answering.done():
            break
        await asyncio.sleep(0)
        answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    async with tenant_session(single, tenant_id) as following:
        assert await backend_of(following) == backends[0]


async def test_a_stream_takes_the_place_of_one_that_has_ended(application: FastAPI, tenant_id: int) -> None:
    app = FastAPI()
    app.state.server_state = dataclasses.replace(application.state.server_state)
    request = Request({"type": "http", "app": app})
    request.state.caller = Caller(tenant_id, 1, frozenset())
    streams = [reading_session(request) for _ in range(STREAMS_OF_A_TENANT)]
    for stream in streams:
        await anext(stream)
    with pytest.raises(TooManyRequests):
        await anext(reading_session(request))
    with pytest.raises(StopAsyncIteration):
        await anext(streams.pop())
    streams.append(reading_session(request))
    await backend_of(await anext(streams[-1]))
    for stream in streams:
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
