"""Odd requests to every route: the answer is a documented problem, never an internal error."""

import base64
import struct
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from tests.api.operations import Operation, keyed, of_operator

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
    b'{"name": "odd", "embedding_space": "external:a\\u0000b:3"}',
    b'{"name": "a\\u0000b", "quotas": {}}',
    b'{"name": "odd", "maximum_galleries": 9223372036854775808, "quotas": {"maximum_galleries": 1e300}}',
    b'{"maximum_galleries": 9223372036854775808}',
    b'{"grace_seconds": 9223372036854775808}',
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


@pytest.mark.parametrize("operation", of_operator(), ids=str)
async def test_an_odd_request_of_the_operator_is_answered_with_a_documented_problem(
    operation: Operation, operator_client: httpx.AsyncClient
) -> None:
    places = {"tenant": "nobody", "key": "k"}
    urls = [operation.url(**places)]
    for word in ODD_WORDS:
        urls += [operation.url(**places | {place: quote(word, safe="")}) for place in places]
        urls += [f"{operation.url(**places)}?{name}={quote(word)}" for name in operation.optional_query]
    answers = [await operator_client.request(operation.method, url) for url in urls]
    if operation.method in {"POST", "PATCH"}:
        headers = {"content-type": "application/json"}
        answers += [
            await operator_client.request(operation.method, urls[0], content=body, headers=headers)
            for body in ODD_BODIES
        ]
    failed = [answer for answer in answers if answer.status_code >= 500]
    assert [(answer.request.url, answer.text) for answer in failed] == []


LISTS = [operation for operation in [*keyed(), *of_operator()] if "cursor" in operation.optional_query]
ODD_KEYS = [-(2**63), -1, 2**31, 2**32, 2**63 - 1]


def test_every_list_has_pages() -> None:
    lists = {one.path for one in [*keyed(), *of_operator()] if one.method == "GET" and one.path.endswith("s")}
    assert lists - {one.path for one in LISTS} == set()


@pytest.mark.parametrize("operation", LISTS, ids=str)
@pytest.mark.parametrize("key", ODD_KEYS)
async def test_a_cursor_with_any_number_is_answered(
    operation: Operation, key: int, client: httpx.AsyncClient, operator_client: httpx.AsyncClient
) -> None:
    """The cursor is one of the list, with another number in it."""
    for number in range(2):
        await client.post("/v1/galleries", json={"name": f"g{number}"})
        await client.post("/v1/keys", json={"name": "another"})
        await client.post("/v1/galleries/g0/people", json={"name": f"p{number}"})
        await client.post("/v1/galleries/g0/import", content=b"[]")
        await operator_client.post("/v1/operator/keys", json={"name": "another"})
        await operator_client.post("/v1/operator/tenants", json={"name": f"odd {number}"})
    person = (await client.get("/v1/galleries/g0/people")).json()["items"][0]["id"]
    for first_number in (1.0, 2.0):
        embedding = {"embedding": [first_number] + [0.5] * 511}
        await client.post(f"/v1/galleries/g0/people/{person}/faces/embedding", json=embedding)
    caller = operator_client if operation.needed_scope == "operator" else client
    url = operation.url(gallery="g0", person=person)
    first = (await caller.get(url, params={"limit": 1})).json()["next_cursor"]
    content = base64.urlsafe_b64decode(first)[:-8] + struct.pack(">q", key)
    answer = await caller.get(url, params={"cursor": base64.urlsafe_b64encode(content).decode()})
    assert answer.status_code == 200 or answer.json()["type"] == "urn:face-identity:invalid-cursor"
