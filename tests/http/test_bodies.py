"""Bodies are read within their limits and strictly."""

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from service.http.bodies import MAXIMUM_JSON_BYTES, MAXIMUM_VECTOR_BYTES
from service.http.multipart import OVERHEAD_BYTES
from service.settings import Settings

RECOGNIZE = "/v1/galleries/staff/recognize"
JSON = {"content-type": "application/json"}


@pytest.fixture
async def staff(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client whose tenant has a gallery `staff` of three numbers a face."""
    await client.post("/v1/galleries", json={"name": "staff", "embedding_space": "external:test:3"})
    return client


@pytest.mark.parametrize(
    ("body", "slug", "says"),
    [
        (b'{"embedding": [1, NaN, 3]}', "invalid-embedding", "NaN"),
        (b'{"embedding": [1, -Infinity, 3]}', "invalid-embedding", "infinite"),
        (b'{"embedding": [1, 1e999, 3]}', "invalid-embedding", "too large"),
        (b'{"embedding": [1, 1e39, 3]}', "invalid-embedding", "number 1"),
        (b'{"embedding": [0, 0, 0]}', "invalid-embedding", "zero"),
        (b'{"embedding": [1, 2]}', "invalid-embedding", "2 numbers, but external:test:3 has 3"),
        (b'{"embedding": []}', "invalid-embedding", "0 numbers"),
        (b'{"embedding": [1, "7", 3]}', "invalid-embedding", "embedding[1]"),
        (b'{"embedding": [1, null, 3]}', "invalid-embedding", "embedding[1]"),
        (b'{"embedding": "1,2,3"}', "invalid-embedding", "embedding"),
        (b'{"embeddings": [[1, 2, 3], [1, true, 3]]}', "invalid-embedding", "embeddings[1][1]"),
        (b'{"embeddings": []}', "invalid-request", "1 to 1000"),
        (b'{"embeddings": [' + b"[1,2,3]," * 1000 + b"[1,2,3]]}", "invalid-request", "1001"),
        (b'{"embedding": [1, 2, 3], "embeddings": [[1, 2, 3]]}', "invalid-request", "exactly one of"),
        (b'{"vector": [1, 2, 3]}', "invalid-request", "vector"),
        (b"{}", "invalid-request", "exactly one of"),
        (b"[1, 2, 3]", "invalid-request", "object"),
        (b'{"embedding": [1, 2', "invalid-request", "truncated"),
        (b"", "invalid-request", "empty"),
        (b"[" * 100_000, "invalid-request", "object"),
        (b'{"embedding": ' + b"[" * 100_000, "invalid-request", "nested"),
        (b"\xff\xfe", "invalid-request", "JSON"),
    ],
)
async def test_a_wrong_body_is_refused_with_the_reason(
    body: bytes, slug: str, says: str, staff: httpx.AsyncClient
) -> None:
    answer = await staff.post(RECOGNIZE, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (422, f"urn:face-identity:{slug}")
    assert says in answer.json()["detail"]
    assert len(answer.text) < 1000


@pytest.mark.parametrize("kind", [None, "text/plain", "text/csv", "application/x-www-form-urlencoded"])
async def test_a_body_of_another_media_type_is_refused(kind: str | None, staff: httpx.AsyncClient) -> None:
    headers = {} if kind is None else {"content-type": kind}
    for path in (RECOGNIZE, "/v1/galleries", "/v1/detect"):
        answer = await staff.post(path, content=b"x=1", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (415, "urn:face-identity:unsupported-media-type")


async def test_json_of_every_json_media_type_is_accepted(staff: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/vnd.face+json; charset=utf-8"}
    assert (await staff.post(RECOGNIZE, content=b'{"embedding": [1, 2, 3]}', headers=headers)).status_code == 200


@pytest.mark.parametrize("body", [b'{"name": "a", "threshold": NaN}', b"{", b"", b'{"name": "a"} x', b"[" * 100_000])
async def test_every_json_body_must_be_strict_json(body: bytes, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/galleries", content=body, headers=JSON)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/galleries", b'{"name": "Ren\xe9"}'),
        ("/v1/galleries/staff/people", b'{"name": "Ren\xe9"}'),
        (RECOGNIZE, b'{"embedding": [1, 2, 3], "\xff": 1}'),
        ("/v1/galleries/staff/people", "{'name': 'x'}".encode("utf-16")),
    ],
)
async def test_a_body_that_is_not_utf8_is_the_callers_mistake(path: str, body: bytes, staff: httpx.AsyncClient) -> None:
    answer = await staff.post(path, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")


async def test_the_first_byte_that_is_not_utf8_is_named(staff: httpx.AsyncClient) -> None:
    answer = await staff.post("/v1/galleries", content=b'{"name": "Ren\xe9"}', headers=JSON)
    assert answer.json()["detail"] == "the body is not UTF-8: byte 13 (counted from 0) is wrong"


async def test_a_number_out_of_range_that_is_no_embedding_is_an_invalid_request(staff: httpx.AsyncClient) -> None:
    for number in (b"1e400", b"NaN"):
        body = b'{"name": "Ada", "metadata": {"f": ' + number + b"}}"
        answer = await staff.post("/v1/galleries/staff/people", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")


async def endless(piece: bytes, taken: list[int]) -> AsyncIterator[bytes]:
    """A body that never ends, and a count of how often a part of it was read."""
    while True:
        taken.append(len(piece))
        yield piece


async def test_the_rest_of_a_json_body_over_the_limit_is_not_read(client: httpx.AsyncClient) -> None:
    taken: list[int] = []
    answer = await client.post("/v1/galleries", content=endless(b" " * 65536, taken), headers=JSON)
    assert (answer.status_code, answer.json()["limit_bytes"]) == (413, MAXIMUM_JSON_BYTES)
    assert sum(taken) <= MAXIMUM_JSON_BYTES + 2 * 65536


async def test_the_rest_of_an_image_over_the_limit_is_not_read(client: httpx.AsyncClient, settings: Settings) -> None:
    taken: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="big.jpg"\r\n\r\n'
        async for piece in endless(b" " * 65536, taken):
            yield piece

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = await client.post("/v1/detect", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:face-identity:image-too-large")
    assert answer.json()["image"] == "big.jpg"
    assert sum(taken) <= settings.maximum_image_bytes + 2 * 1048576


async def test_a_declared_length_over_the_limit_is_refused_without_reading(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    taken: list[int] = []
    length = str(settings.maximum_image_bytes + OVERHEAD_BYTES + 1)
    headers = {"content-type": "multipart/form-data; boundary=b", "content-length": length}
    answer = await client.post("/v1/detect", content=endless(b" ", taken), headers=headers)
    assert (answer.status_code, taken) == (413, [])


async def test_a_request_may_have_a_thousand_probes(staff: httpx.AsyncClient) -> None:
    probes = [[0.1 + number / 1000, 0.2, 0.3] for number in range(1000)]
    answer = await staff.post(RECOGNIZE, content=msgspec.json.encode({"embeddings": probes}), headers=JSON)
    assert len(answer.json()["faces"]) == 1000


async def test_a_vector_longer_than_any_embedding_is_refused_by_its_length(staff: httpx.AsyncClient) -> None:
    body = b'{"embedding": [' + b"1," * (MAXIMUM_VECTOR_BYTES // 2) + b"1]}"
    answer = await staff.post(RECOGNIZE, content=body, headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-embedding")
    assert "is longer than any embedding" in answer.json()["detail"]
