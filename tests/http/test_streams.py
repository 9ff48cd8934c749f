"""Streamed answers: an error before the first byte is a problem, and an error after it aborts the answer."""

import socket
import time
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from service.api import datasets
from service.http.request_log import AnswerCutShort
from tests.support.server import ServerProcess

EXPORT = "/v1/galleries/staff/export"


@pytest.fixture
async def staff(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client whose tenant has an empty gallery `staff`."""
    await client.post("/v1/galleries", json={"name": "staff", "embedding_space": "external:test:3"})
    return client


async def test_an_error_before_the_first_byte_is_answered_as_a_problem(
    staff: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> AsyncIterator[bytes]:
        raise RuntimeError("inside")
        yield b""

    monkeypatch.setattr(datasets, "export_dataset", broken)
    answer = await staff.get(EXPORT)
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "inside" not in answer.text


async def test_a_lack_of_memory_in_a_request_is_answered_as_retry_later(
    staff: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def greedy(*_: object) -> AsyncIterator[bytes]:
        raise MemoryError
        yield b""

    monkeypatch.setattr(datasets, "export_dataset", greedy)
    answer = await staff.get(EXPORT)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:face-identity:out-of-memory")
    assert answer.headers["retry-after"]


async def test_an_error_after_the_first_byte_aborts_the_answer(
    application: FastAPI, staff: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> AsyncIterator[bytes]:
        yield b"["
        raise RuntimeError("inside")

    monkeypatch.setattr(datasets, "export_dataset", broken)
    transport = httpx.ASGITransport(application)
    direct = httpx.AsyncClient(transport=transport, base_url="http://service", headers=staff.headers)
    with pytest.raises(AnswerCutShort):  # the connection is cut, and the reason stays inside
        await direct.get(EXPORT)


def test_clients_that_disconnect_release_their_database_connections(server: ServerProcess) -> None:
    """More clients than the pool has connections, each in the middle of a long export."""
    server.environment["DATABASE_POOL_SIZE"] = "2"
    key = server.new_key()
    server.start()
    with server.client(key) as client:
        client.post("/v1/galleries", json={"name": "staff", "embedding_space": "external:test:1000"})
        rows = b"".join(
            msgspec.json.encode({"person": f"p{number}", "embedding": [0.1234567890123 + number] * 1000}) + b"\n"
            for number in range(400)
        )
        job = client.post("/v1/galleries/staff/import", content=rows).json()["job"]
        while (found := client.get(f"/v1/jobs/{job}").json())["status"] in {"queued", "running"}:
            time.sleep(0.1)
        assert found["status"] == "succeeded", found
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(f"GET {EXPORT} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode())
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert client.get("/v1/galleries/staff", timeout=300).json()["faces"] == 400
        assert client.get(EXPORT, timeout=300).content.count(b"\n") == 400
