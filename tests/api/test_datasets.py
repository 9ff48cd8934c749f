"""Import as a background job and export as a stream, over HTTP."""

import asyncio
from typing import Any

import httpx
import pytest

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
