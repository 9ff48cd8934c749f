"""Bytes of request bodies are counted in all and by tenant, and every request gives its bytes back."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.database.connection import Database
from service.errors import BodyBudgetFull, TenantBodyBudgetFull
from service.http.budgets import ByteBudget, Holding
from service.http.state import ServerState
from service.settings import Settings
from tests.support.server import MakeClient, open_client
from tests.support.waiting import GUARD_SECONDS

BUDGET = 400_000
SHARE = BUDGET // 2
IMAGE = {"content-type": "image/jpeg"}


def test_one_tenant_takes_at_most_half() -> None:
    budget = ByteBudget(100, "memory")
    budget.take(1, 50)
    with pytest.raises(TenantBodyBudgetFull):
        budget.take(1, 1)
    budget.take(2, 50)
    with pytest.raises(BodyBudgetFull):
        budget.take(3, 1)
    assert budget.held_bytes == 100


def test_a_released_holding_leaves_nothing() -> None:
    budget = ByteBudget(100, "memory")
    holding = Holding(budget, 1)
    holding.add(30)
    holding.add(20)
    with pytest.raises(TenantBodyBudgetFull):
        holding.add(1)
    holding.release()
    holding.release()
    assert (budget.held_bytes, budget._of_tenant) == (0, {})


@pytest.fixture(scope="module")
async def small(settings: Settings, database: Database) -> AsyncIterator[FastAPI]:
    """An application with small budgets."""
    budgets = {"maximum_held_bytes": BUDGET, "maximum_spooled_bytes": BUDGET, "worker_in_server": False}
    app = create_app(settings.model_copy(update=budgets))
    async with app.router.lifespan_context(app):
        yield app


class Upload:
    """A body of `size` bytes that stops before its last byte until `go_on` is set."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.has_sent, self.go_on = asyncio.Event(), asyncio.Event()

    async def body(self) -> AsyncIterator[bytes]:
        yield b"x" * (self.size - 1)
        self.has_sent.set()
        await self.go_on.wait()
        yield b"x"


async def begin(upload: Upload, client: httpx.AsyncClient, path: str) -> asyncio.Task[httpx.Response]:
    task = asyncio.create_task(client.post(path, content=upload.body(), headers=IMAGE))
    async with asyncio.timeout(GUARD_SECONDS):
        await upload.has_sent.wait()
    return task


@pytest.fixture
async def clients(
    small: FastAPI, client: httpx.AsyncClient, other_client: httpx.AsyncClient
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Two tenants at the small application, each with a gallery `staff`."""
    for each in (client, other_client):
        await each.post("/v1/galleries", json={"name": "staff", "embedding_space": "external:test:3"})
    async with (
        open_client(small, client.headers["x-api-key"]) as first,
        open_client(small, other_client.headers["x-api-key"]) as second,
    ):
        yield first, second


def state_of(app: FastAPI) -> ServerState:
    state: ServerState = app.state.server_state
    return state


@pytest.mark.parametrize(
    ("path", "budget"), [("/v1/detect", "held_bytes"), ("/v1/galleries/staff/import", "spooled_bytes")]
)
async def test_unfinished_bodies_of_one_tenant_leave_room_for_another(
    path: str, budget: str, small: FastAPI, clients: tuple[httpx.AsyncClient, httpx.AsyncClient]
) -> None:
    first, second = clients
    upload = Upload(SHARE - 10)
    waiting = await begin(upload, first, path)
    assert getattr(state_of(small), budget).held_bytes == SHARE - 11
    refused = await first.post(path, content=b"x" * 100, headers=IMAGE)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:face-identity:tenant-body-budget-full")
    assert int(refused.headers["retry-after"]) >= 1
    answered = await second.post(path, content=b"x" * 100, headers=IMAGE)
    assert answered.status_code in {202, 415}, answered.text
    upload.go_on.set()
    assert (await waiting).status_code in {202, 415}
    assert getattr(state_of(small), budget).held_bytes == 0


async def test_a_full_budget_refuses_the_next_tenant_with_retry_after(
    small: FastAPI, clients: tuple[httpx.AsyncClient, httpx.AsyncClient], make_client: MakeClient, database: Database
) -> None:
    from tests.conftest import new_tenant

    third = await make_client(await new_tenant(database))
    uploads = [Upload(SHARE - 10), Upload(SHARE - 10)]
    waiting = [await begin(upload, each, "/v1/detect") for upload, each in zip(uploads, clients, strict=True)]
    async with open_client(small, third.headers["x-api-key"]) as other:
        refused = await other.post("/v1/detect", content=b"x" * 100, headers=IMAGE)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:face-identity:body-budget-full")
    assert int(refused.headers["retry-after"]) >= 1
    for upload in uploads:
        upload.go_on.set()
    await asyncio.gather(*waiting)
    assert state_of(small).held_bytes.held_bytes == 0


async def test_a_client_that_leaves_gives_its_bytes_back(
    small: FastAPI, clients: tuple[httpx.AsyncClient, httpx.AsyncClient]
) -> None:
    waiting = await begin(Upload(1000), clients[0], "/v1/detect")
    assert state_of(small).held_bytes.held_bytes == 999
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert state_of(small).held_bytes.held_bytes == 0


async def test_a_body_larger_than_the_share_of_a_tenant_is_too_large_and_not_worth_a_retry(
    clients: tuple[httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    refused = await clients[0].post("/v1/detect", content=b"x" * (SHARE + 1), headers=IMAGE)
    assert refused.status_code == 413
    assert "retry-after" not in refused.headers
