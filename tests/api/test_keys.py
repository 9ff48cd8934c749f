"""API keys over HTTP: shown once, limited, rotated and revoked."""

import httpx
import pytest
from fastapi import FastAPI

from service.encoder.fake_pictures import draw_people
from tests.support.server import MakeClient, open_client


async def test_a_key_is_shown_once_works_and_is_revoked(client: httpx.AsyncClient, application: FastAPI) -> None:
    made = await client.post("/v1/keys", json={"name": "front door", "scopes": ["read"]})
    assert made.status_code == 201
    listed = (await client.get("/v1/keys")).json()["items"]
    assert made.json()["key"] not in str(listed)
    assert made.json()["id"] in {key["id"] for key in listed}
    async with open_client(application, made.json()["key"]) as door:
        assert (await door.get("/v1/galleries")).status_code == 200
        assert (await client.delete(f"/v1/keys/{made.json()['id']}")).status_code == 204
        assert (await door.get("/v1/galleries")).status_code == 401


async def test_either_header_carries_the_key(client: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    key = client.headers["x-api-key"]
    for name, value in [("X-API-Key", key), ("Authorization", f"Bearer {key}"), ("authorization", f"bearer {key}")]:
        assert (await anonymous.get("/v1/galleries", headers={name: value})).status_code == 200
    assert (await anonymous.get("/v1/galleries", headers={"Authorization": f"Basic {key}"})).status_code == 401
    for wrong in (b"", b"\xe9", key[:-1].encode(), b"fik_1_" + b"0" * 49):
        assert (await anonymous.get("/v1/galleries", headers={b"X-API-Key": wrong})).status_code == 401


async def test_a_new_key_has_at_most_the_permissions_of_its_creator(make_client: MakeClient, tenant_id: int) -> None:
    limited = await make_client(tenant_id, ["admin", "read"], ["visitors"])
    assert (await limited.post("/v1/keys", json={"name": "x", "scopes": ["erase"]})).status_code == 403
    assert (await limited.post("/v1/keys", json={"name": "x", "galleries": ["staff"]})).status_code == 403
    same = (await limited.post("/v1/keys", json={"name": "x"})).json()
    assert (same["scopes"], same["galleries"]) == (["admin", "read"], ["visitors"])


async def test_a_limited_key_manages_only_keys_with_the_same_limits(
    client: httpx.AsyncClient, make_client: MakeClient, tenant_id: int
) -> None:
    wide = (await client.post("/v1/keys", json={"name": "wide"})).json()
    limited = await make_client(tenant_id, ["admin"], ["visitors"])
    assert wide["id"] not in {key["id"] for key in (await limited.get("/v1/keys")).json()["items"]}
    assert (await limited.delete(f"/v1/keys/{wide['id']}")).status_code == 404
    kept = {key["id"]: key["revoked_at"] for key in (await client.get("/v1/keys")).json()["items"]}
    assert kept[wide["id"]] is None


@pytest.mark.parametrize("change", [{"scopes": ["fly"]}, {"expires_at": "2020-01-01T00:00:00Z"}, {"galleries": []}])
async def test_an_invalid_key_request_is_refused(change: dict[str, object], client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/keys", json={"name": "x"} | change)).status_code == 422


async def test_both_keys_work_during_the_grace_period(client: httpx.AsyncClient, application: FastAPI) -> None:
    wanted = {"name": "door", "scopes": ["read"], "inferences_per_minute": 60}
    old = (await client.post("/v1/keys", json=wanted)).json()
    answer = await client.post(f"/v1/keys/{old['id']}/rotate", json={"grace_seconds": 60})
    assert answer.status_code == 201
    new = answer.json()
    assert (new["scopes"], new["inferences_per_minute"]) == (["read"], 60)
    async with open_client(application, old["key"]) as before, open_client(application, new["key"]) as after:
        assert (await before.get("/v1/galleries")).status_code == 200
        assert (await after.get("/v1/galleries")).status_code == 200
        await client.post(f"/v1/keys/{new['id']}/rotate", json={"grace_seconds": 0})
        assert (await after.get("/v1/galleries")).status_code == 401
    again = await client.post(f"/v1/keys/{new['id']}/rotate", json={})
    assert again.status_code == 409


async def test_a_key_over_its_rate_limit_gets_retry_after(client: httpx.AsyncClient, application: FastAPI) -> None:
    made = (await client.post("/v1/keys", json={"name": "slow", "requests_per_minute": 1})).json()
    async with open_client(application, made["key"]) as slow:
        answers = [await slow.get("/v1/galleries") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["type"] == "urn:face-identity:too-many-requests"
    assert 1 <= int(answers[1].headers["retry-after"]) <= 60
    assert (await client.get("/v1/galleries")).status_code == 200


async def test_a_gallery_for_verification_only_forbids_identification(
    client: httpx.AsyncClient, make_client: MakeClient, tenant_id: int
) -> None:
    picture = {"image": ("ada.jpg", draw_people(["Ada"]))}
    await client.post("/v1/galleries", json={"name": "door", "verification_only": True})
    person = (await client.post("/v1/galleries/door/people", json={"name": "Ada"})).json()["id"]
    await client.post(f"/v1/galleries/door/people/{person}/faces", files=picture)
    refused = await client.post("/v1/galleries/door/recognize", files=picture)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:face-identity:forbidden")
    embedding = {"embedding": [1.0] * 512}
    assert (await client.post("/v1/galleries/door/recognize", json=embedding)).status_code == 403
    verified = await client.post(f"/v1/galleries/door/people/{person}/verify", files=picture)
    assert verified.json()["verified"] is True
    enroller = await make_client(tenant_id, ["enroll", "recognize"])
    assert (await enroller.patch("/v1/galleries/door", json={"verification_only": False})).status_code == 403
    assert (await client.patch("/v1/galleries/door", json={"verification_only": False})).status_code == 200
    assert (await client.post("/v1/galleries/door/recognize", files=picture)).status_code == 200


async def test_identification_and_verification_are_separate_scopes(
    client: httpx.AsyncClient, make_client: MakeClient, tenant_id: int
) -> None:
    picture = {"image": ("ada.jpg", draw_people(["Ada"]))}
    await client.post("/v1/galleries", json={"name": "door"})
    person = (await client.post("/v1/galleries/door/people", json={"name": "Ada"})).json()["id"]
    await client.post(f"/v1/galleries/door/people/{person}/faces", files=picture)
    paths = {"recognize": "/v1/galleries/door/recognize", "verify": f"/v1/galleries/door/people/{person}/verify"}
    for scope in paths:
        limited = await make_client(tenant_id, [scope])
        statuses = {other: (await limited.post(path, files=picture)).status_code for other, path in paths.items()}
        assert statuses == {other: 200 if other == scope else 403 for other in paths}
