"""Keys over HTTP: shown once, limited, revoked at once."""

import httpx
import pytest
from fastapi import FastAPI

from tests.support.server import MakeClient, open_client


async def test_a_key_is_shown_once_works_and_ends(client: httpx.AsyncClient, application: FastAPI) -> None:
    made = await client.post("/v1/keys", json={"name": "front door", "scopes": ["read"]})
    assert made.status_code == 201
    listed = (await client.get("/v1/keys")).json()["items"]
    assert made.json()["key"] not in str(listed)
    assert made.json()["id"] in {key["id"] for key in listed}
    async with open_client(application, made.json()["key"]) as door:
        assert (await door.get("/v1/galleries")).status_code == 200
        assert (await client.delete(f"/v1/keys/{made.json()['id']}")).status_code == 204
        assert (await door.get("/v1/galleries")).status_code == 401


async def test_a_key_is_taken_from_either_header(client: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    key = client.headers["x-api-key"]
    for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {"authorization": f"bearer {key}"}):
        assert (await anonymous.get("/v1/galleries", headers=headers)).status_code == 200
    for headers in ({"X-API-Key": key[:-1]}, {"Authorization": f"Basic {key}"}, {"X-API-Key": ""}, {"X-API-Key": b"\xe9"}):
        assert (await anonymous.get("/v1/galleries", headers=headers)).status_code == 401


async def test_a_key_gives_no_more_than_it_has(make_client: MakeClient, tenant_id: int) -> None:
    limited = await make_client(tenant_id, ["admin", "read"], ["visitors"])
    assert (await limited.post("/v1/keys", json={"name": "x", "scopes": ["erase"]})).status_code == 403
    assert (await limited.post("/v1/keys", json={"name": "x", "galleries": ["staff"]})).status_code == 403
    same = (await limited.post("/v1/keys", json={"name": "x"})).json()
    assert (same["scopes"], same["galleries"]) == (["admin", "read"], ["visitors"])


async def test_a_limited_key_manages_only_keys_as_limited(
    client: httpx.AsyncClient, make_client: MakeClient, tenant_id: int
) -> None:
    wide = (await client.post("/v1/keys", json={"name": "wide"})).json()
    limited = await make_client(tenant_id, ["admin"], ["visitors"])
    assert wide["id"] not in {key["id"] for key in (await limited.get("/v1/keys")).json()["items"]}
    assert (await limited.delete(f"/v1/keys/{wide['id']}")).status_code == 404
    kept = {key["id"]: key["revoked_at"] for key in (await client.get("/v1/keys")).json()["items"]}
    assert kept[wide["id"]] is None


@pytest.mark.parametrize("change", [{"scopes": ["fly"]}, {"expires_at": "2020-01-01T00:00:00Z"}, {"galleries": []}])
async def test_a_key_that_makes_no_sense_is_refused(change: dict[str, object], client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/keys", json={"name": "x"} | change)).status_code == 422
