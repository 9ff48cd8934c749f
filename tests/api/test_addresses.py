"""Ids in paths and names of query parameters: errors name the mistake, and external ids are addresses, too."""

from urllib.parse import quote

import httpx
import pytest

from tests.api.operations import Operation, keyed, of_operator, orderly
from tests.api.test_every_route import fill

PEOPLE = "/v1/galleries/staff/people"
WITH_PERSON = [operation for operation in keyed() if "{person}" in operation.path]
ODD_ID = "EMP/17 é#?%2F"


@pytest.fixture
async def gallery(client: httpx.AsyncClient) -> None:
    """The gallery `staff`, empty."""
    await client.post("/v1/galleries", json={"name": "staff"})


async def test_a_name_instead_of_an_id_is_told_how_ids_are_found(client: httpx.AsyncClient, gallery: None) -> None:
    await client.post(PEOPLE, json={"name": "Ada Lovelace"})
    answer = await client.get(f"{PEOPLE}/Ada%20Lovelace")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:face-identity:not-found")
    detail = answer.json()["detail"]
    assert detail == ("no person of gallery 'staff' has the id 'Ada Lovelace'; ids are found with ?name=Ada%20Lovelace")
    found = await client.get(PEOPLE + detail.rpartition(" with ")[2])
    assert [one["name"] for one in found.json()["items"]] == ["Ada Lovelace"]


async def test_an_id_that_nobody_has_gets_no_hint_about_names(client: httpx.AsyncClient, gallery: None) -> None:
    answer = await client.get(f"{PEOPLE}/0c4qyk3d9m2w8")
    assert answer.json()["detail"] == "no person of gallery 'staff' has the id '0c4qyk3d9m2w8'"


@pytest.mark.parametrize("operation", WITH_PERSON, ids=str)
async def test_an_external_id_is_an_address_on_every_route(operation: Operation, client: httpx.AsyncClient) -> None:
    ids = await fill(client)
    await client.patch(f"{PEOPLE}/{ids.person}", json={"external_id": ODD_ID})
    await client.patch(f"{PEOPLE}/{ids.other}", json={"external_id": "other"})
    by_external_id = vars(ids) | {"person": f"external:{quote(ODD_ID, safe='')}"}
    url = operation.url(**by_external_id)
    answer = await client.request(operation.method, url, **orderly(operation, "external:other"))
    assert answer.status_code < 300 or answer.json()["type"].endswith(":duplicate-picture"), answer.text


async def test_an_external_id_that_nobody_has_is_not_found(client: httpx.AsyncClient, gallery: None) -> None:
    answer = await client.get(f"{PEOPLE}/external:BADGE-7")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:face-identity:not-found")
    assert answer.json()["detail"] == "no person of gallery 'staff' has the external_id 'BADGE-7'"


async def test_an_external_id_of_another_tenant_is_not_found(
    client: httpx.AsyncClient, other_client: httpx.AsyncClient, gallery: None
) -> None:
    await client.post(PEOPLE, json={"name": "Ada", "external_id": "7"})
    await other_client.post("/v1/galleries", json={"name": "staff"})
    assert (await client.get(f"{PEOPLE}/external:7")).status_code == 200
    assert (await other_client.get(f"{PEOPLE}/external:7")).status_code == 404


async def test_a_person_is_not_merged_with_itself_by_its_external_id(client: httpx.AsyncClient, gallery: None) -> None:
    made = (await client.post(PEOPLE, json={"name": "Ada", "external_id": "7"})).json()["id"]
    answer = await client.post(f"{PEOPLE}/{made}/merge", json={"from": "external:7"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")
    assert (await client.get(f"{PEOPLE}/{made}")).status_code == 200


@pytest.mark.parametrize("operation", keyed(), ids=str)
async def test_an_unknown_query_parameter_is_refused_by_its_name(
    operation: Operation, client: httpx.AsyncClient
) -> None:
    ids = await fill(client)
    await check_unknown_parameter(client, operation, operation.url(**vars(ids)), orderly(operation, ids.other))


@pytest.mark.parametrize("operation", of_operator(), ids=str)
async def test_an_unknown_query_parameter_of_the_operator_is_refused_by_its_name(
    operation: Operation, operator_client: httpx.AsyncClient
) -> None:
    url = operation.url(tenant="nobody", key="k")
    await check_unknown_parameter(operator_client, operation, url, orderly(operation))


async def check_unknown_parameter(
    client: httpx.AsyncClient, operation: Operation, url: str, arguments: dict[str, object]
) -> None:
    url += ("&" if "?" in url else "?") + "treshold=0.9&x%0A=1"
    params = arguments.pop("params", {})
    assert isinstance(params, dict)
    url += "".join(f"&{name}={value}" for name, value in params.items())
    answer = await client.request(operation.method, url, **arguments)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")
    assert [error["field"] for error in answer.json()["errors"]] == ["query.treshold", "query.x?"]
    assert "treshold" in answer.json()["detail"]


async def test_the_answer_lists_the_parameters_that_exist(client: httpx.AsyncClient, gallery: None) -> None:
    answer = await client.get(f"{PEOPLE}?nmae=Ada")
    assert answer.json()["detail"].endswith("this operation takes cursor, external_id, limit, metadata, name")
    nothing = await client.get("/v1/usage?x=1")
    assert nothing.json()["detail"].endswith("this operation takes no query parameters")


async def test_a_key_for_a_gallery_that_does_not_exist_is_refused(client: httpx.AsyncClient, gallery: None) -> None:
    new = {"name": "door", "galleries": ["staff", "stuff"]}
    answer = await client.post("/v1/keys", json=new)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")
    assert answer.json()["errors"][0]["field"] == "body.galleries"
    assert "'stuff'" in answer.json()["detail"]
    assert "'staff'" not in answer.json()["detail"]
    before = (await client.get("/v1/keys")).json()["items"]
    assert "door" not in [key["name"] for key in before]
    made = await client.post("/v1/keys", json=new | {"missing_ok": True})
    assert (made.status_code, made.json()["galleries"]) == (201, ["staff", "stuff"])
