"""People over HTTP: paths hold ids, and names are data."""

import httpx
import pytest

from tests.api.test_galleries import quoted

STAFF = "/v1/galleries/staff/people"


@pytest.fixture
async def staff(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client with an empty gallery `staff`."""
    await client.post("/v1/galleries", json={"name": "staff"})
    return client


@pytest.mark.parametrize("name", ["Ada 🦊/../Lovelace", "a/b", "..", "%2e%2e", "Ж\u202eא", "x" * 500])
async def test_a_name_is_data_and_never_a_path(name: str, staff: httpx.AsyncClient) -> None:
    made = await staff.post(STAFF, json={"name": name})
    assert made.status_code == 201
    shown = await staff.get(f"{STAFF}/{made.json()['id']}")
    assert shown.json()["name"] == name
    found = await staff.get(STAFF, params={"name": name})
    assert [person["id"] for person in found.json()["items"]] == [made.json()["id"]]


@pytest.mark.parametrize("name", ["x" * 10_000, "", "  ", "a\nb", "a\0b"])
async def test_an_unprintable_or_blank_name_is_refused(name: str, staff: httpx.AsyncClient) -> None:
    refused = await staff.post(STAFF, json={"name": name})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:face-identity:invalid-request")
    assert "name" in refused.json()["detail"]
    assert len(refused.text) < 1000


async def test_omitted_fields_keep_their_value(staff: httpx.AsyncClient) -> None:
    given = {"name": "Ada", "external_id": "17", "metadata": {"floor": 3}}
    made = (await staff.post(STAFF, json=given)).json()
    place = f"{STAFF}/{made['id']}"
    assert (await staff.patch(place, json={"name": "Ada L."})).json() == made | {"name": "Ada L."}
    assert (await staff.patch(place, json={"external_id": None})).json()["external_id"] is None
    assert (await staff.patch(place, json={"metadata": {"floor": 4}})).json()["metadata"] == {"floor": 4}
    assert (await staff.patch(place, json={"metadata": None})).json()["metadata"] == {}
    unnamed = await staff.patch(place, json={"name": None})
    assert (unnamed.status_code, unnamed.json()["errors"][0]["field"]) == (422, "body.name")
    assert (await staff.get(place)).json()["name"] == "Ada L."


async def test_a_taken_name_is_a_conflict_unless_the_external_ids_differ(staff: httpx.AsyncClient) -> None:
    await staff.post(STAFF, json={"name": "Ada"})
    assert (await staff.post(STAFF, json={"name": "Ada"})).status_code == 409
    assert (await staff.post(STAFF, json={"name": "Ada", "external_id": "17"})).status_code == 201
    assert (await staff.post(STAFF, json={"name": "Eve", "external_id": "17"})).status_code == 409


async def test_a_metadata_filter_limits_the_list_and_its_pages(staff: httpx.AsyncClient) -> None:
    for number in range(6):
        metadata = {"tags": ["vip" if number % 2 else "guest"], "floor": {"number": number}}
        await staff.post(STAFF, json={"name": f"p{number}", "metadata": metadata})
    query: dict[str, str | int] = {"metadata": '{"tags": ["vip"]}', "limit": 2}
    first = (await staff.get(STAFF, params=query)).json()
    second = (await staff.get(STAFF, params=query | {"cursor": first["next_cursor"]})).json()
    assert [person["name"] for person in first["items"] + second["items"]] == ["p1", "p3", "p5"]
    assert second["next_cursor"] is None
    other_list = await staff.get(STAFF, params={"cursor": first["next_cursor"]})
    assert other_list.json()["type"] == "urn:face-identity:invalid-cursor"
    nested = await staff.get(STAFF, params={"metadata": '{"floor": {"number": 4}}'})
    assert [person["name"] for person in nested.json()["items"]] == ["p4"]
    assert (await staff.get(STAFF, params={"metadata": "{}", "name": "p0"})).json()["items"][0]["name"] == "p0"


async def test_an_erased_person_is_not_found(staff: httpx.AsyncClient) -> None:
    made = (await staff.post(STAFF, json={"name": "Ada"})).json()
    assert (await staff.delete(f"{STAFF}/{made['id']}")).status_code == 204
    assert (await staff.get(f"{STAFF}/{made['id']}")).status_code == 404
    assert (await staff.delete(f"{STAFF}/{made['id']}")).status_code == 404


@pytest.mark.parametrize("odd", ["0" * 13, "x", "\0", "é", "a/b", "z" * 5000])
async def test_an_odd_id_is_not_found(odd: str, staff: httpx.AsyncClient) -> None:
    url = httpx.URL("http://service").copy_with(raw_path=f"{STAFF}/".encode() + quoted(odd))
    assert (await staff.get(url)).status_code == 404


@pytest.mark.parametrize("query", [{"name": "a\0b"}, {"cursor": "nonsense"}, {"limit": "0"}, {"limit": "many"}])
async def test_an_odd_query_is_refused(query: dict[str, str], staff: httpx.AsyncClient) -> None:
    assert (await staff.get(STAFF, params=query)).status_code == 422


async def test_every_spelling_of_a_name_finds_the_gallery_and_the_person(staff: httpx.AsyncClient) -> None:
    await staff.post("/v1/galleries", json={"name": "Caf\u00e9"})
    there = f"/v1/galleries/{quoted('Cafe' + chr(0x301)).decode()}%20"
    made = await staff.post(f"{there}/people", json={"name": "Jose\u0301 "})
    assert (made.status_code, made.json()["name"]) == (201, "Jos\u00e9")
    found = await staff.get(f"{there}/people", params={"name": " Jose\u0301"})
    assert [person["id"] for person in found.json()["items"]] == [made.json()["id"]]
    assert (await staff.get(f"{there}/check")).json()["same_names"] == []
