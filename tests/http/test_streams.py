"""Streamed answers: an error before the first byte is a problem, and an error after it aborts the answer."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from service.api import datasets
from service.errors import TooManyRequests
from service.http.connections import LEAST_BYTES_PER_SECOND, patience_after
from service.http.request_log import AnswerCutShort
from service.http.state import STREAMS_OF_A_TENANT, Streams
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

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


async def test_head_of_an_export_reads_no_reference(staff: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> AsyncIterator[bytes]:
        raise AssertionError("references are read")
        yield b""

    monkeypatch.setattr(datasets, "export_dataset", broken)
    answer = await staff.head(EXPORT, params={"format": "ndjson"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert (await staff.head("/v1/galleries/nowhere/export")).status_code == 404


async def test_a_tenant_has_a_few_exports_at_a_time_and_others_are_not_held_up(
    staff: httpx.AsyncClient, other_client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def slow(*_: object) -> AsyncIterator[bytes]:
        begun.release()
        await go_on.wait()
        yield b"[]"

    monkeypatch.setattr(datasets, "export_dataset", slow)
    running = [asyncio.create_task(staff.get(EXPORT)) for _ in range(STREAMS_OF_A_TENANT)]
    for _ in running:
        await begun.acquire()
    refused = await staff.get(EXPORT)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:face-identity:too-many-requests")
    assert int(refused.headers["retry-after"]) > 0
    await other_client.post("/v1/galleries", json={"name": "staff", "embedding_space": "external:test:3"})
    other = asyncio.create_task(other_client.get(EXPORT))
    await begun.acquire()  # its export has begun, although the first tenant's have not ended
    go_on.set()
    assert {answer.status_code for answer in await asyncio.gather(*running, other)} == {200}
    assert (await staff.get(EXPORT)).status_code == 200


def test_a_stream_that_fails_makes_room_for_the_next() -> None:
    streams = Streams()
    for _ in range(3 * STREAMS_OF_A_TENANT):
        with pytest.raises(ZeroDivisionError), streams.one_of(7):
            raise ZeroDivisionError
    with ExitStack() as stack:
        for _ in range(STREAMS_OF_A_TENANT):
            stack.enter_context(streams.one_of(7))
        with pytest.raises(TooManyRequests), streams.one_of(7):
            pass
        with streams.one_of(8):
            pass


def test_a_client_that_reads_slower_than_the_least_speed_uses_up_its_patience() -> None:
    left = 30.0
    for _ in range(100):  # half of the least speed costs half of the time
        left = patience_after(left, 30, 1, LEAST_BYTES_PER_SECOND // 2)
    assert left == 0
    for _ in range(100):  # a fast client earns its patience back, and never more than it had
        left = patience_after(left, 30, 1, 10 * LEAST_BYTES_PER_SECOND)
    assert left == 30


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
            while True:  # the server may not have noticed yet that the last client has left
                with socket.create_connection(("127.0.0.1", server.port)) as connection:
                    connection.sendall(f"GET {EXPORT} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode())
                    if not (answer := connection.recv(100)).startswith(b"HTTP/1.1 429"):
                        assert answer.startswith(b"HTTP/1.1 200")
                        break
        assert client.get("/v1/galleries/staff", timeout=300).json()["faces"] == 400
        wait_until(lambda: client.get(EXPORT, timeout=300).content.count(b"\n") == 400)
