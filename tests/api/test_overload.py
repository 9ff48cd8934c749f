"""An overloaded server refuses images, answers everything else, and recovers."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from service.access.key_format import new_key
from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_people
from service.encoder.runtime.backpressure import Reservation
from service.errors import Overloaded
from tests.support.server import open_client

CALLERS = 60
"""Concurrent callers; more than the queue of this machine accepts."""


@contextlib.asynccontextmanager
async def overloaded(encoders: Encoders) -> AsyncIterator[None]:
    """Callers that retry immediately, from the moment when the first of them was refused."""
    image = draw_people([f"person {number}" for number in range(12)])
    is_over = asyncio.Event()

    async def call() -> None:
        while not is_over.is_set():
            with contextlib.suppress(Overloaded):
                await encoders.encode(encoders.default, image)
            await asyncio.sleep(0.002)

    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    refused_before = encoders.current_load().refused
    try:
        while encoders.current_load().refused == refused_before:  # noqa: ASYNC110 - a count, not an event
            await asyncio.sleep(0.002)
        yield
    finally:
        is_over.set()
        await asyncio.gather(*callers)


async def test_an_overloaded_server_refuses_images_with_retry_after_and_recovers(
    application: FastAPI, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    images = {"image": ("a.jpg", draw_people(["Ada"]), "image/jpeg")}
    async with overloaded(application.state.server_state.encoders):
        while (refused := await client.post("/v1/galleries/staff/recognize", files=images)).status_code == 200:
            pass  # a slot was free for a moment
        alive, ready = await client.get("/healthz"), await client.get("/readyz")
    assert (alive.status_code, ready.status_code) == (200, 200)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:face-identity:overloaded")
    assert int(refused.headers["Retry-After"]) == refused.json()["retry_after_seconds"] >= 1
    while (after := await client.post("/v1/galleries/staff/recognize", files=images)).status_code == 503:  # noqa: ASYNC110
        await asyncio.sleep(0.1)  # the server is strained for two seconds after the last refusal
    assert after.status_code == 200


async def test_an_overloaded_server_still_recognizes_embeddings(
    application: FastAPI, client: httpx.AsyncClient
) -> None:
    encoders: Encoders = application.state.server_state.encoders
    await client.post("/v1/galleries", json={"name": "staff"})
    probe = [1.0] + [0.0] * (encoders.default.dimension - 1)
    async with overloaded(encoders):
        answer = await client.post("/v1/galleries/staff/recognize", json={"embedding": probe})
    assert answer.status_code == 200


async def test_an_unknown_key_is_refused_before_a_place_in_the_queue_is_taken(
    application: FastAPI, anonymous: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise strangers could take the places of tenants. The key has the form of a real one."""
    encoders: Encoders = application.state.server_state.encoders
    places: list[Reservation] = []

    def reserve_and_count() -> Reservation:
        places.append(Encoders.reserve_slot(encoders))
        return places[-1]

    monkeypatch.setattr(encoders, "reserve_slot", reserve_and_count)
    images = {"image": ("a.jpg", draw_people(["Ada"]), "image/jpeg")}
    refused = await anonymous.post("/v1/detect", files=images, headers={"X-API-Key": new_key(1)})
    assert (refused.status_code, places) == (401, [])


async def test_a_refusal_of_an_image_is_not_counted_against_the_rate_limit(
    application: FastAPI, client: httpx.AsyncClient
) -> None:
    encoders: Encoders = application.state.server_state.encoders
    made = await client.post("/v1/keys", json={"name": "door", "inferences_per_minute": 1})
    images = {"image": ("a.jpg", draw_people(["Ada"]), "image/jpeg")}
    slots: list[Reservation] = []
    async with open_client(application, made.json()["key"]) as door:
        with contextlib.suppress(Overloaded):
            while True:
                slots.append(encoders.reserve_slot())
                slots[-1].expires = math.inf
        refused = [(await door.post("/v1/detect", files=images)).status_code for _ in range(3)]
        assert refused == [503, 503, 503]
        for slot in slots:
            slot.release()
        while (answer := await door.post("/v1/detect", files=images)).status_code == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # strained
        assert answer.status_code == 200
        assert (await door.post("/v1/detect", files=images)).status_code == 429
