"""The platform operator over HTTP: tenants, quotas, usage and keys, separated from the keys of tenants."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from service.encoder.fake_pictures import draw_people
from tests.api.operations import Operation, keyed, of_operator, orderly
from tests.support.server import open_client

OF_OPERATOR = pytest.mark.parametrize("operation", of_operator(), ids=str)
PICTURE = {"image": ("ada.jpg", draw_people(["Ada"]))}


@pytest.fixture
def name() -> str:
    """A tenant name that is not in use."""
    return f"tenant-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def made(operator_client: httpx.AsyncClient, application: FastAPI, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the first key of a tenant that the operator created."""
    answer = await operator_client.post("/v1/operator/tenants", json={"name": name})
    async with open_client(application, answer.json()["key"]) as client:
        yield client


@OF_OPERATOR
async def test_without_a_key_the_answer_is_401(operation: Operation, anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.request(operation.method, operation.url(tenant="t", key="k"), **orderly(operation))
    assert answer.status_code == 401


@OF_OPERATOR
async def test_a_tenants_key_cannot_use_the_operators_routes(operation: Operation, client: httpx.AsyncClient) -> None:
    answer = await client.request(operation.method, operation.url(tenant="t", key="k"), **orderly(operation))
    assert answer.status_code == 403


@pytest.mark.parametrize("operation", keyed(), ids=str)
async def test_an_operator_key_cannot_use_a_tenants_routes(
    operation: Operation, operator_client: httpx.AsyncClient
) -> None:
    url = operation.url(gallery="staff", person="p", face="f", job="j", key="k")
    assert (await operator_client.request(operation.method, url, **orderly(operation))).status_code == 401


@pytest.mark.parametrize("operation", [one for one in of_operator() if "{" in one.path], ids=str)
async def test_an_unknown_tenant_or_key_is_404(operation: Operation, operator_client: httpx.AsyncClient) -> None:
    answer = await operator_client.request(operation.method, operation.url(tenant="t", key="k"), **orderly(operation))
    assert answer.status_code == 404


async def test_a_new_tenant_has_a_key_that_ends_with_the_tenant(
    operator_client: httpx.AsyncClient, made: httpx.AsyncClient, name: str
) -> None:
    assert (await made.post("/v1/galleries", json={"name": "staff"})).status_code == 201
    assert (await operator_client.get(f"/v1/operator/tenants/{name}")).json()["name"] == name
    assert (await operator_client.post("/v1/operator/tenants", json={"name": name})).status_code == 409
    assert (await operator_client.delete(f"/v1/operator/tenants/{name}")).status_code == 204
    assert (await made.get("/v1/galleries")).status_code == 401


async def test_the_pages_list_every_tenant_once(operator_client: httpx.AsyncClient) -> None:
    names = {f"listed-{uuid.uuid4().hex[:12]}" for _ in range(5)}
    for name in names:
        await operator_client.post("/v1/operator/tenants", json={"name": name})
    seen: list[str] = []
    cursor = None
    while True:
        page = (
            await operator_client.get(
                "/v1/operator/tenants", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
            )
        ).json()
        seen += [tenant["name"] for tenant in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen))
    assert names <= set(seen)


async def test_a_changed_quota_applies_to_the_next_request(
    operator_client: httpx.AsyncClient, made: httpx.AsyncClient, name: str
) -> None:
    await made.post("/v1/galleries", json={"name": "staff"})
    changed = await operator_client.patch(f"/v1/operator/tenants/{name}", json={"maximum_galleries": 1})
    assert changed.json()["quotas"]["maximum_galleries"] == 1
    refused = await made.post("/v1/galleries", json={"name": "guests"})
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:face-identity:quota-exceeded")
    assert refused.json()["quota"] == "maximum_galleries"
    assert int(refused.headers["retry-after"]) > 0
    await operator_client.patch(f"/v1/operator/tenants/{name}", json={"inferences_per_minute": 5})
    lifted = await operator_client.patch(f"/v1/operator/tenants/{name}", json={"maximum_galleries": None})
    assert lifted.json()["quotas"]["inferences_per_minute"] == 5
    assert (await made.post("/v1/galleries", json={"name": "guests"})).status_code == 201


async def test_images_and_other_requests_have_separate_rate_limits(
    operator_client: httpx.AsyncClient, made: httpx.AsyncClient, name: str
) -> None:
    await made.post("/v1/galleries", json={"name": "staff"})
    await operator_client.patch(f"/v1/operator/tenants/{name}", json={"inferences_per_minute": 3})
    assert (await made.post("/v1/galleries/staff/recognize", files=PICTURE)).status_code == 200
    both = [("image", PICTURE["image"]), ("image", PICTURE["image"])]
    assert (await made.post("/v1/compare", files=both)).status_code == 200
    refused = await made.post("/v1/galleries/staff/recognize", files=PICTURE)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:face-identity:too-many-requests")
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert (await made.get("/v1/galleries")).status_code == 200


async def test_usage_contains_only_numbers(
    operator_client: httpx.AsyncClient, made: httpx.AsyncClient, name: str
) -> None:
    await made.post("/v1/galleries", json={"name": "staff"})
    person = (await made.post("/v1/galleries/staff/people", json={"name": "Ada"})).json()["id"]
    await made.post(f"/v1/galleries/staff/people/{person}/faces", files=PICTURE)
    seen = await operator_client.get(f"/v1/operator/tenants/{name}/usage")
    own = await made.get("/v1/usage")
    assert seen.json() == own.json()
    assert (seen.json()["galleries"], seen.json()["people"], seen.json()["faces"]) == (1, 1, 1)
    assert seen.json()["stored_bytes"] > 2000
    assert "Ada" not in seen.text
    assert "staff" not in seen.text


async def test_an_operator_key_is_shown_once_rotated_and_revoked(
    operator_client: httpx.AsyncClient, application: FastAPI
) -> None:
    made = (await operator_client.post("/v1/operator/keys", json={"name": "billing"})).json()
    listed = await operator_client.get("/v1/operator/keys", params={"limit": 1000})
    assert made["id"] in {key["id"] for key in listed.json()["items"]}
    assert made["key"] not in listed.text
    rotated = (await operator_client.post(f"/v1/operator/keys/{made['id']}/rotate", json={})).json()
    async with open_client(application, made["key"]) as old, open_client(application, rotated["key"]) as new:
        assert (await old.get("/v1/operator/tenants")).status_code == 200
        assert (await new.get("/v1/operator/tenants")).status_code == 200
        assert (await operator_client.delete(f"/v1/operator/keys/{made['id']}")).status_code == 204
        assert (await old.get("/v1/operator/tenants")).status_code == 401
        assert (await new.get("/v1/operator/tenants")).status_code == 200


async def test_concurrent_writers_do_not_exceed_a_quota(
    operator_client: httpx.AsyncClient, made: httpx.AsyncClient, name: str
) -> None:
    await made.post("/v1/galleries", json={"name": "staff"})
    await operator_client.patch(f"/v1/operator/tenants/{name}", json={"maximum_faces_per_gallery": 3})
    names = [made.post("/v1/galleries/staff/people", json={"name": f"p{place}"}) for place in range(12)]
    statuses = [answer.status_code for answer in await asyncio.gather(*names)]
    assert sorted(statuses) == [201] * 3 + [429] * 9
