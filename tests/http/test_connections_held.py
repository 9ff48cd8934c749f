"""With one connection to the database: which requests hold it, and which wait without it."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.database.connection import Database
from service.encoder.fake_pictures import draw_people
from service.settings import Settings
from tests.support.server import open_client

FORM = {"content-type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
PATIENCE_SECONDS = 5.0


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


async def test_a_model_at_work_holds_no_connection(
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


@pytest.fixture
def frozen() -> Iterator[None]:
    """Keep the garbage collector from scanning the objects of earlier tests (0.2 s), as a server does at its start."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
async def test_a_thousand_probes_do_not_stop_the_event_loop(caller: httpx.AsyncClient) -> None:
    body = msgspec.json.encode({"embeddings": [[0.123456789 + number] * 4000 for number in range(1000)]})
    before = time.thread_time()
    msgspec.json.decode(body, type=dict[str, list[list[float]]])
    at_once = time.thread_time() - before
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()  # the processor time of this thread, however busy the machine is
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    headers = {"content-type": "application/json"}
    answer = await caller.post("/v1/galleries/staff/recognize", content=body, headers=headers)
    watching.cancel()
    assert "4000 numbers, but fake has 512" in answer.json()["detail"]
    # Both are processor times of one thread, so that neither other programs nor a slow machine matter.
    assert longest < 0.75 * at_once
