"""Odd requests to every route: the answer is a documented problem, never an internal error."""

from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from tests.api.operations import Operation, keyed

ODD_WORDS = [
    "\0",
    "a\0b",
    "..",
    "a/b",
    "💩",
    "\u202e",
    "x" * 3000,
    "NaN",
    "9" * 400,
    "'; DROP TABLE person;--",
    "\r\nX: y",
]
ODD_BODIES = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"1e999",
    b"\xff",
    b'{"name": "a\\u0000b", "metadata": {"a": "\\u0000"}}',
    b'{"name": "\\ud800"}',
    b'{"name": null, "metadata": [], "threshold": "x", "external_id": {}}',
    b'{"name": "x", "metadata": {"a": 1e400}}',
    b'{"name": "x", "metadata": {"a": ' + b"9" * 5000 + b"}}",
    b'{"name": "x", "metadata": ' + b'{"a":' * 500 + b"1" + b"}" * 501,
    b'{"embedding": [[1]], "source": "\\u0000"}',
    b'{"embedding": null, "embeddings": [null]}',
    b'{"to": "\\u0000", "from": "\\u0000"}',
    b'{"to": "\\u0000"}',
    b'{"from": "\\u202e"}',
    b'{"name": "x", "scopes": null, "galleries": ["\\u0000"], "expires_at": "9999-12-31T23:59:59Z"}',
]
ODD_TIMES = [
    "9999-12-31T23:59:59-00:01",
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T00:00:00+23:59",
    "0001-01-01T00:00:00+00:01",
    "0001-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "2030-02-30T00:00:00Z",
    "2030-01-01T00:00:00",
    "2030-01-01T00:00:00+99:99",
    "2030-01-01T00:00:00.1234567890123456789Z",
    10**30,
    -(10**30),
    1e300,
    253402300799,
    253402300800,
    True,
    "\0",
    "",
]
TENANT_OPERATIONS = [operation for operation in keyed() if not operation.path.startswith("/v1/operator")]


def odd_urls(operation: Operation) -> Iterator[str]:
    """The address with an odd word in each id, and with odd words in the query."""
    places = {"gallery": "staff", "person": "p", "face": "f", "job": "j", "key": "k"}
    for word in ODD_WORDS:
        for place in places:
            if "{" + place + "}" in operation.template:
                yield operation.url(**places | {place: quote(word, safe="")})
        names = operation.optional_query
        url = operation.url(**places)
        yield url + ("&" if "?" in url else "?") + "&".join(f"{name}={quote(word)}" for name in names)


@pytest.mark.parametrize("operation", TENANT_OPERATIONS, ids=str)
async def test_an_odd_request_is_answered_with_a_documented_problem(
    operation: Operation, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    places = {"gallery": "staff", "person": "p", "face": "f", "job": "j", "key": "k"}
    answers = [await client.request(operation.method, url) for url in odd_urls(operation)]
    if operation.method in {"POST", "PATCH"}:
        for kind in ("application/json", "multipart/form-data; boundary=x"):
            for body in ODD_BODIES:
                headers = {"content-type": kind}
                url = operation.url(**places)
                answers.append(await client.request(operation.method, url, content=body, headers=headers))
    failed = [answer for answer in answers if answer.status_code >= 500 and "encoder-unavailable" not in answer.text]
    assert [(answer.request.url, answer.text) for answer in failed] == []
    unclear = [answer for answer in answers if answer.status_code >= 400 and not answer.json()["detail"]]
    assert [(answer.request.url, answer.text) for answer in unclear] == []


@pytest.mark.parametrize("time", ODD_TIMES, ids=repr)
async def test_an_odd_time_of_expiry_is_taken_or_refused_with_its_field(
    client: httpx.AsyncClient, operator_client: httpx.AsyncClient, time: object
) -> None:
    for caller, path, extra in ((client, "/v1/keys", {"scopes": ["read"]}), (operator_client, "/v1/operator/keys", {})):
        answer = await caller.post(path, json={"name": "k", "expires_at": time} | extra)
        assert answer.status_code in {201, 422}, answer.text
        if answer.status_code == 422:
            assert "expires_at" in answer.json()["detail"]
        assert (await caller.get(path)).status_code == 200


async def test_a_number_that_is_too_large_for_a_float_is_a_fault_of_the_metadata(client: httpx.AsyncClient) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    body = b'{"name": "Ada", "metadata": {"f": 1e400}}'
    answer = await client.post("/v1/galleries/staff/people", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")
