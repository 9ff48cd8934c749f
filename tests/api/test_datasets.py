"""Import as a background job and export as a stream, over HTTP."""

import asyncio
import resource
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from service.database.connection import Database
from service.database.session import tenant_session
from service.database.spooling import SPOOL
from service.settings import Settings
from tests.support.server import open_client

STAFF = "/v1/galleries/staff"
DATASET = b'[["Ada","0.1,0.2,0.30000000000000004"],\n["Eve","-1.0,2.29,0.5"],\n["Ada","0.3,0.1,0.2"]]\n'


@pytest.fixture
async def staff(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client with an empty gallery `staff` for embeddings made elsewhere."""
    await client.post("/v1/galleries", json={"name": "staff", "embedding_space": "external:legacy:3"})
    return client


async def finished(client: httpx.AsyncClient, started: httpx.Response) -> dict[str, Any]:
    """Wait until the job has ended, for minutes on a busy machine, and return it."""
    assert started.status_code == 202, started.text
    assert started.headers["location"] == f"/v1/jobs/{started.json()['job']}"
    for _ in range(6000):
        job: dict[str, Any] = (await client.get(started.headers["location"])).json()
        if job["status"] in {"succeeded", "failed"}:
            return job
        await asyncio.sleep(0.05)
    raise AssertionError(job)


async def test_an_export_returns_the_imported_file_byte_for_byte(staff: httpx.AsyncClient) -> None:
    job = await finished(staff, await staff.post(f"{STAFF}/import", content=DATASET))
    assert (job["status"], job["error"]) == ("succeeded", None)
    assert {"people": 2, "faces": 3}.items() <= job["result"].items()
    assert job["progress"] == {"done": 3, "total": 3}
    exported = await staff.get(f"{STAFF}/export")
    assert (exported.headers["content-type"], exported.content) == ("application/json", DATASET)
    assert (await staff.get(f"{STAFF}/export", params={"format": "ndjson"})).text.count("\n") == 3


async def test_a_form_imports_the_same_file(staff: httpx.AsyncClient) -> None:
    job = await finished(staff, await staff.post(f"{STAFF}/import", files={"file": ("dataset.json", DATASET)}))
    assert job["status"] == "succeeded"
    assert (await staff.get(f"{STAFF}/export")).content == DATASET


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (DATASET[:-20], "row 3"),
        (b'[["Ada","1,2,3"],["","1,2,3"]]', "row 2"),
        (b'[["Ada","1,2,3"],["1,2,3"]]', "row 2"),
        (b"{", ""),
    ],
)
async def test_an_invalid_file_fails_the_job_and_imports_nothing(
    content: bytes, place: str, staff: httpx.AsyncClient
) -> None:
    job = await finished(staff, await staff.post(f"{STAFF}/import", content=content))
    assert (job["status"], job["result"]) == ("failed", None)
    assert job["error"]["type"] == "urn:face-identity:invalid-dataset"
    assert place in job["error"]["detail"]
    assert (await staff.get(STAFF)).json().items() >= {"people": 0, "faces": 0}.items()


async def test_an_unknown_export_format_is_refused(staff: httpx.AsyncClient) -> None:
    answer = await staff.get(f"{STAFF}/export", params={"format": "csv"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "query.format")


async def test_an_empty_body_is_not_a_dataset(staff: httpx.AsyncClient) -> None:
    assert (await staff.post(f"{STAFF}/import", content=b"")).json()["type"] == "urn:face-identity:invalid-dataset"


QUOTA_BYTES = 100_000


@pytest.fixture
async def limited(staff: httpx.AsyncClient, database: Database, tenant_id: int) -> httpx.AsyncClient:
    """The client `staff`, whose tenant may store QUOTA_BYTES."""
    async with database.engine.connect() as connection:
        await connection.execute(text("SET LOCAL ROLE face_identity_operator"))
        change = text("UPDATE tenant SET maximum_stored_bytes = :bytes WHERE tenant_id = :tenant")
        await connection.execute(change, {"bytes": QUOTA_BYTES, "tenant": tenant_id})
        await connection.commit()
    return staff


async def endless(taken: list[int]) -> AsyncIterator[bytes]:
    """A body that never ends, and the sizes of the pieces that were read."""
    while True:
        taken.append(10_000)
        yield b"x" * 10_000


async def test_a_declared_length_over_the_quota_is_refused_without_reading_and_without_a_retry(
    limited: httpx.AsyncClient,
) -> None:
    taken: list[int] = []
    headers = {"content-length": str(QUOTA_BYTES + 1)}
    answer = await limited.post(f"{STAFF}/import", content=endless(taken), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:face-identity:payload-too-large")
    assert (answer.json()["limit_bytes"], taken) == (QUOTA_BYTES, [])
    assert "retry-after" not in answer.headers


async def test_a_file_over_the_quota_is_read_only_until_the_quota(limited: httpx.AsyncClient) -> None:
    taken: list[int] = []
    answer = await limited.post(f"{STAFF}/import", content=endless(taken))
    assert (answer.status_code, answer.json()["type"]) == (429, "urn:face-identity:quota-exceeded")
    assert sum(taken) <= QUOTA_BYTES + 20_000


async def test_waiting_imports_count_before_the_next_one_arrives(
    limited: httpx.AsyncClient, database: Database, tenant_id: int
) -> None:
    job = (await limited.post(f"{STAFF}/import", content=DATASET)).json()["job"]
    while (await limited.get(f"/v1/jobs/{job}")).json()["status"] != "succeeded":  # noqa: ASYNC110 - a state
        await asyncio.sleep(0.02)
    async with tenant_session(database.engine, tenant_id) as session:
        stored = await session.scalar(text("SELECT stored_bytes_v1(:tenant)"), {"tenant": tenant_id})
    taken: list[int] = []
    headers = {"content-length": str(QUOTA_BYTES - stored + 1)}
    answer = await limited.post(f"{STAFF}/import", content=endless(taken), headers=headers)
    assert (answer.status_code, answer.json()["type"], taken) == (429, "urn:face-identity:quota-exceeded", [])
    assert answer.headers["retry-after"]


async def test_a_file_that_arrives_has_no_name_in_the_data_folder(staff: httpx.AsyncClient, settings: Settings) -> None:
    """So a killed server leaves nothing of it behind."""
    names: list[str] = []

    async def body() -> AsyncIterator[bytes]:
        yield DATASET
        names.extend(path.name for path in (settings.data_dir / SPOOL).iterdir())

    assert (await staff.post(f"{STAFF}/import", content=body())).status_code == 202
    assert names == []
    assert (settings.data_dir / SPOOL).stat().st_mode & 0o777 == 0o700


async def test_a_request_without_a_free_file_descriptor_is_told_to_retry(staff: httpx.AsyncClient) -> None:
    """The connection of the request is open, and the temporary file of an import is not."""
    await staff.get("/v1/galleries")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def body() -> AsyncIterator[bytes]:
        yield DATASET

    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # every new file has a higher number
    try:
        answer = await staff.post(f"{STAFF}/import", content=body())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:face-identity:out-of-files")
    assert answer.headers["retry-after"]


async def test_a_revoked_key_ends_its_upload(
    staff: httpx.AsyncClient, application: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the file arrives, and at its end."""
    for seconds in (0.0, 10.0**6):
        monkeypatch.setattr("service.http.bodies.RECHECKED_SECONDS", seconds)
        made = (await staff.post("/v1/keys", json={"name": "loader"})).json()
        taken: list[int] = []

        async def body(key: str = made["id"], taken: list[int] = taken) -> AsyncIterator[bytes]:
            yield DATASET
            assert (await staff.delete(f"/v1/keys/{key}")).status_code == 204
            for _ in range(10):
                taken.append(1)
                yield b" "

        async with open_client(application, made["key"]) as loader:
            answer = await loader.post(f"{STAFF}/import", content=body())
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:face-identity:unauthenticated")
        assert "revoked" in answer.json()["detail"]
        assert len(taken) == (1 if seconds == 0.0 else 10)
    assert (await staff.get("/v1/jobs")).json()["items"] == []
