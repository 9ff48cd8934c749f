"""A server with too much to do says so, and goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
from fastapi import FastAPI

from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_people
from service.errors import Overloaded

BUSY = 60
"""Callers at a time: more than any machine's threads take here."""
ASKED = 20


@contextlib.asynccontextmanager
async def overloaded(encoders: Encoders) -> AsyncIterator[None]:
    """Callers that ask again as soon as they were answered or refused."""
    picture = draw_people([f"person {number}" for number in range(12)])
    is_over = asyncio.Event()

    async def call() -> None:
        while not is_over.is_set():
            with contextlib.suppress(Overloaded):
                await encoders.encode(encoders.default, picture)
            await asyncio.sleep(0.002)

    callers = [asyncio.create_task(call()) for _ in range(BUSY)]
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        is_over.set()
        await asyncio.gather(*callers)


async def test_an_overloaded_server_refuses_pictures_with_a_time_to_come_back(
    application: FastAPI, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    pictures = {"image": ("a.jpg", draw_people(["Ada"]), "image/jpeg")}
    async with overloaded(application.state.service.encoders):
        answers = [await client.post("/v1/galleries/staff/recognize", files=pictures) for _ in range(ASKED)]
        alive, ready = await client.get("/healthz"), await client.get("/readyz")
    refused = [answer for answer in answers if answer.status_code != 200]
    assert (len(refused) > 0, alive.status_code, ready.status_code) == (True, 200, 200)
    for answer in refused:
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:face-identity:overloaded")
        assert int(answer.headers["Retry-After"]) == answer.json()["retry_after_seconds"] >= 1
    await asyncio.sleep(2.1)  # so long it is strained
    after = await client.post("/v1/galleries/staff/recognize", files=pictures)
    assert after.status_code == 200


async def test_an_overloaded_server_still_takes_embeddings(application: FastAPI, client: httpx.AsyncClient) -> None:
    encoders: Encoders = application.state.service.encoders
    await client.post("/v1/galleries", json={"name": "staff"})
    probe = [1.0] + [0.0] * (encoders.default.dimension - 1)
    async with overloaded(encoders):
        answer = await client.post("/v1/galleries/staff/recognize", json={"embedding": probe})
    assert answer.status_code == 200
