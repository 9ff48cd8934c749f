"""A server with too much to do says so, and goes on."""

import asyncio

import httpx
from fastapi import FastAPI

from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_people
from service.errors import Overloaded

TOO_MANY = 60
"""More pictures than any machine's threads take at a time here."""


async def overload(encoders: Encoders, pictures: int) -> list[asyncio.Task[list[object]]]:
    picture = draw_people([f"person {number}" for number in range(12)])

    async def encode() -> list[object]:
        try:
            return list(await encoders.encode(encoders.default, picture))
        except Overloaded:
            return []

    tasks = [asyncio.create_task(encode()) for _ in range(pictures)]
    await asyncio.sleep(0)  # all of them stand in the queue now, or were refused
    return tasks


async def test_an_overloaded_server_refuses_pictures_with_a_time_to_come_back(
    application: FastAPI, client: httpx.AsyncClient
) -> None:
    encoders: Encoders = application.state.service.encoders
    await client.post("/v1/galleries", json={"name": "staff"})
    pictures = {"image": ("a.jpg", draw_people(["Ada"]), "image/jpeg")}
    assert encoders.current_load().waiting == 0
    under_way = await overload(encoders, TOO_MANY)
    try:
        refused = await client.post("/v1/galleries/staff/recognize", files=pictures)
        alive = await client.get("/healthz")
        ready = await client.get("/readyz")
    finally:
        await asyncio.gather(*under_way)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:face-identity:overloaded")
    assert int(refused.headers["Retry-After"]) == refused.json()["retry_after_seconds"] >= 1
    assert (alive.status_code, ready.status_code) == (200, 200)
    after = await client.post("/v1/galleries/staff/recognize", files=pictures)
    assert after.status_code == 200


async def test_an_overloaded_server_still_takes_embeddings(application: FastAPI, client: httpx.AsyncClient) -> None:
    encoders: Encoders = application.state.service.encoders
    await client.post("/v1/galleries", json={"name": "staff"})
    under_way = await overload(encoders, TOO_MANY)
    try:
        probe = [1.0] + [0.0] * (encoders.default.dimension - 1)
        answer = await client.post("/v1/galleries/staff/recognize", json={"embedding": probe})
    finally:
        await asyncio.gather(*under_way)
    assert answer.status_code == 200
