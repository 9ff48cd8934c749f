"""Rules for every route: it needs a key and its scope, respects the key's galleries, and hides other tenants' data.

A route without an entry in `operations.py` fails here.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi.routing import APIRoute

from service.access.names import SCOPES
from service.api.routers import ROUTERS
from service.encoder.fake_pictures import draw_people
from tests.api.operations import PUBLIC, Operation, keyed, operations, orderly
from tests.support.server import MakeClient

KEYED = pytest.mark.parametrize("operation", keyed(), ids=str)
WITH_IDS = pytest.mark.parametrize("operation", [one for one in keyed() if "{" in one.template], ids=str)
IN_GALLERIES = pytest.mark.parametrize("operation", [one for one in keyed() if "{gallery}" in one.template], ids=str)
BELOW_GALLERIES = pytest.mark.parametrize(
    "operation", [one for one in keyed() if "{person}" in one.path or "{face}" in one.path], ids=str
)


@dataclass(frozen=True)
class Ids:
    """Identifiers of one resource of each kind; `other` is a second person."""

    gallery: str
    person: str
    other: str
    face: str
    job: str
    key: str


async def fill(client: httpx.AsyncClient, gallery: str = "staff") -> Ids:
    """Create a gallery with two people and a face, a job and a key."""
    await client.post("/v1/galleries", json={"name": gallery})
    person = (await client.post(f"/v1/galleries/{gallery}/people", json={"name": "Ada"})).json()["id"]
    other = (await client.post(f"/v1/galleries/{gallery}/people", json={"name": "Eve"})).json()["id"]
    picture = {"image": ("ada.jpg", draw_people(["Ada"]))}
    enrolled = await client.post(f"/v1/galleries/{gallery}/people/{person}/faces", files=picture)
    job = await client.post(f"/v1/galleries/{gallery}/import", content=b"[]")
    key = await client.post("/v1/keys", json={"name": "another"})
    return Ids(gallery, person, other, enrolled.json()["faces"][0]["id"], job.json()["job"], key.json()["id"])


@pytest.fixture
async def ids(client: httpx.AsyncClient) -> Ids:
    """The resources of a fresh tenant."""
    return await fill(client)


def test_the_documentation_lists_every_route() -> None:
    routes = [route for router in ROUTERS for route in router.routes]
    paths = {operation.path for operation in operations()}
    assert [route for route in routes if not (isinstance(route, APIRoute) and route.path_format in paths)] == []


def test_only_the_health_routes_need_no_key() -> None:
    open_routes = {(one.method, one.path) for one in operations() if not one.needed_scope}
    assert open_routes == PUBLIC


@KEYED
async def test_without_a_key_the_body_is_not_read_and_the_answer_is_401(
    operation: Operation, anonymous: httpx.AsyncClient
) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(operation)
        yield b"{}"

    url = operation.url(gallery="staff", person="p", face="f", job="j", key="k")
    answer = await anonymous.request(operation.method, url, content=body())
    assert answer.status_code == 401
    assert answer.json()["type"] == "urn:face-identity:unauthenticated"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert read == []


@KEYED
async def test_a_key_without_the_scope_of_the_route_is_refused(
    operation: Operation, make_client: MakeClient, tenant_id: int
) -> None:
    client = await make_client(tenant_id, [scope for scope in SCOPES if scope != operation.needed_scope])
    url = operation.url(gallery="staff", person="p", face="f", job="j", key="k")
    answer = await client.request(operation.method, url, **orderly(operation))
    assert answer.status_code == 403
    assert operation.needed_scope in answer.json()["detail"]


@WITH_IDS
async def test_another_tenants_ids_are_not_found(
    operation: Operation, ids: Ids, other_client: httpx.AsyncClient
) -> None:
    url = operation.url(**vars(ids))
    answer = await other_client.request(operation.method, url, **orderly(operation, ids.other))
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:face-identity:not-found"


@WITH_IDS
async def test_the_owner_of_the_ids_is_answered(operation: Operation, ids: Ids, client: httpx.AsyncClient) -> None:
    answer = await client.request(operation.method, operation.url(**vars(ids)), **orderly(operation, ids.other))
    assert answer.status_code < 300 or answer.json()["type"].endswith((":duplicate-picture", ":conflict"))


@BELOW_GALLERIES
async def test_another_tenants_people_are_not_found_in_a_gallery_of_the_same_name(
    operation: Operation, ids: Ids, other_client: httpx.AsyncClient
) -> None:
    own = await fill(other_client)
    url = operation.url(**vars(ids))
    answer = await other_client.request(operation.method, url, **orderly(operation, ids.other))
    assert answer.status_code == 404
    kept = await other_client.get(f"/v1/galleries/staff/people/{own.person}/faces")
    assert [face["id"] for face in kept.json()["items"]] == [own.face]


@IN_GALLERIES
async def test_a_key_limited_to_other_galleries_finds_nothing(
    operation: Operation, ids: Ids, make_client: MakeClient, tenant_id: int
) -> None:
    limited = await make_client(tenant_id, galleries=["visitors"])
    answer = await limited.request(operation.method, operation.url(**vars(ids)), **orderly(operation, ids.other))
    assert answer.status_code == 404
    absent = await limited.request(
        operation.method, operation.url(**vars(ids) | {"gallery": "visitors"}), **orderly(operation, ids.other)
    )
    assert absent.json()["detail"] == answer.json()["detail"].replace("staff", "visitors")


@pytest.mark.parametrize("path", ["/v1/galleries", "/v1/jobs", "/v1/keys"])
async def test_lists_contain_nothing_of_another_tenant(path: str, ids: Ids, other_client: httpx.AsyncClient) -> None:
    listed = (await other_client.get(path)).json()["items"]
    assert not {"staff", ids.job, ids.key} & {value for item in listed for value in (item.get("id"), item.get("name"))}
