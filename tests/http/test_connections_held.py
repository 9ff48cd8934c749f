"""Which requests hold a connection to the database, which wait without it, and that none holds two."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from sqlalchemy import event

from service.app import create_app
from service.database.connection import Database
from service.encoder.fake_pictures import draw_people
from service.settings import Settings
from tests.api.operations import Operation, keyed, of_operator, orderly
from tests.api.test_every_route import Ids, fill
from tests.support.server import open_client

FORM = {"content-type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
PATIENCE_SECONDS = 300.0
"""How long a test waits for a state before it fails. No test asks how soon the state comes."""


@pytest.fixture(scope="module")
async def narrow(settings: Settings, database: Database) -> AsyncIterator[FastAPI]:
    """An application whose pool is one connection."""
    app = create_app(settings.model_copy(update={"database_pool_size": 1, "worker_in_server": False}))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def caller(narrow: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """The fresh tenant at the narrow application, with a gallery `staff` that has Ada in it."""
    await client.post("/v1/galleries", json={"name": "staff"})
    person = (await client.post("/v1/galleries/staff/people", json={"name": "Ada"})).json()["id"]
    picture = {"image": ("ada.jpg", draw_people(["Ada"]))}
    await client.post(f"/v1/galleries/staff/people/{person}/faces", files=picture)
    async with open_client(narrow, client.headers["x-api-key"]) as narrow_client:
        yield narrow_client


async def is_served(caller: httpx.AsyncClient) -> bool:
    """Whether another request gets the connection."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await caller.get("/v1/galleries/staff")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/galleries/staff/recognize", "/v1/galleries/staff/import", "/v1/detect"])
async def test_a_body_that_arrives_slowly_holds_no_connection(path: str, caller: httpx.AsyncClient) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield HEAD
        begun.set()
        await go_on.wait()
        yield draw_people(["Ada"]) + b"\r\n--b--\r\n"

    slow = asyncio.create_task(caller.post(path, content=slow_body(), headers=FORM))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await begun.wait()
    assert await is_served(caller)
    go_on.set()
    assert (await slow).status_code < 300


async def test_a_request_holds_no_connection_during_inference(
    narrow: FastAPI, caller: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = narrow.state.server_state.encoders
    begun, go_on, encode = asyncio.Event(), asyncio.Event(), encoders.encode

    async def slow_encode(*arguments: object, **named: object) -> object:
        begun.set()
        await go_on.wait()
        return await encode(*arguments, **named)

    monkeypatch.setattr(encoders, "encode", slow_encode)
    picture = {"image": ("ada.jpg", draw_people(["Ada"]))}
    slow = asyncio.create_task(caller.post("/v1/galleries/staff/recognize", files=picture))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await begun.wait()
    assert await is_served(caller)
    go_on.set()
    assert (await slow).json()["faces"][0]["decision"] == "match"


async def test_a_large_body_of_probes_is_parsed_outside_the_event_loop(
    caller: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the parser waits, the event loop answers another request."""
    in_threads: list[str] = []
    begun, go_on, to_thread = asyncio.Event(), asyncio.Event(), asyncio.to_thread

    async def held(function: Callable[..., object], *arguments: object) -> object:
        if function.__name__ not in {"decode_json", "_decode_vectors"}:
            return await to_thread(function, *arguments)  # another task of the application
        in_threads.append(function.__name__)
        begun.set()
        await go_on.wait()
        return await to_thread(function, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", held)
    body = msgspec.json.encode({"embeddings": [[0.123456789 + number] * 400 for number in range(1000)]})
    headers = {"content-type": "application/json"}
    large = asyncio.create_task(caller.post("/v1/galleries/staff/recognize", content=body, headers=headers))
    waiting = asyncio.create_task(begun.wait())
    await asyncio.wait({large, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert not large.done()
    assert await is_served(caller)
    go_on.set()
    assert "400 numbers, but fake has 512" in (await large).json()["detail"]
    assert in_threads == ["decode_json", "_decode_vectors"]


class HeldConnections:
    """Counts the connections of a pool that are checked out, and remembers the most."""

    def __init__(self, database: Database) -> None:
        self.now = self.most = 0
        pool = database.engine.sync_engine.pool
        event.listen(pool, "checkout", self._checkout)
        event.listen(pool, "checkin", self._checkin)

    def _checkout(self, *_: object) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def _checkin(self, *_: object) -> None:
        self.now -= 1


@pytest.fixture(scope="module")
async def quiet(settings: Settings) -> AsyncIterator[tuple[FastAPI, HeldConnections]]:
    """An application that nobody else uses, and the connections that its requests hold."""
    app = create_app(settings.model_copy(update={"worker_in_server": False}))
    async with app.router.lifespan_context(app):
        yield app, HeldConnections(app.state.server_state.database)


@pytest.fixture
async def ids(client: httpx.AsyncClient) -> Ids:
    """The resources of the fresh tenant."""
    return await fill(client)


async def most_held(app: FastAPI, held: HeldConnections, key: str, operation: Operation, ids: dict[str, str]) -> int:
    """The connections that one valid request holds at the same time."""
    held.now = held.most = 0
    async with open_client(app, key) as caller:
        answer = await caller.request(
            operation.method, operation.url(**ids), **orderly(operation, ids.get("other", ""))
        )
    assert answer.status_code < 300 or answer.json()["type"].endswith((":duplicate-picture", ":conflict")), answer.text
    assert held.now == 0
    return held.most


@pytest.mark.parametrize("operation", keyed(), ids=str)
async def test_a_request_of_a_tenant_holds_one_connection_at_a_time(
    operation: Operation, quiet: tuple[FastAPI, HeldConnections], client: httpx.AsyncClient, ids: Ids
) -> None:
    assert await most_held(*quiet, client.headers["x-api-key"], operation, vars(ids)) == 1


@pytest.mark.parametrize("operation", of_operator(), ids=str)
async def test_a_request_of_the_operator_holds_one_connection_at_a_time(
    operation: Operation, quiet: tuple[FastAPI, HeldConnections], operator_client: httpx.AsyncClient
) -> None:
    """Requests that hold one connection and wait for another can lock the whole pool."""
    name = f"tenant-{uuid.uuid4().hex}"
    await operator_client.post("/v1/operator/tenants", json={"name": name})
    key = (await operator_client.post("/v1/operator/keys", json={"name": "another"})).json()["id"]
    if operation.method == "POST" and operation.path == "/v1/operator/tenants":
        await operator_client.delete("/v1/operator/tenants/acme")
    ids = {"tenant": name, "key": key}
    assert await most_held(*quiet, operator_client.headers["x-api-key"], operation, ids) == 1
