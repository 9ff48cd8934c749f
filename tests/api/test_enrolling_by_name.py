"""`POST /v1/galleries/{gallery}/faces`: the person is named, created if missing, and nothing is doubled."""

import asyncio
from typing import Any

import httpx
import pytest

from service.encoder.fake_pictures import draw_nobody, draw_people

FACES = "/v1/galleries/staff/faces"
PEOPLE = "/v1/galleries/staff/people"
ADA = {"image": ("ada.jpg", draw_people(["Ada"]))}


@pytest.fixture(autouse=True)
async def gallery(client: httpx.AsyncClient) -> None:
    """The gallery `staff`, empty."""
    await client.post("/v1/galleries", json={"name": "staff"})


async def people(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    return list((await client.get(PEOPLE)).json()["items"])


async def test_the_person_is_created_and_the_next_search_finds_the_face(client: httpx.AsyncClient) -> None:
    answer = await client.post(FACES, params={"person": "Ada"}, files=ADA)
    assert (answer.status_code, answer.json()["created"]) == (201, True)
    person = answer.json()["person"]
    assert (person["name"], person["external_id"], person["faces"]) == ("Ada", None, 1)
    found = await client.post("/v1/galleries/staff/recognize", files=ADA)
    assert found.json()["faces"][0]["match"]["person"]["id"] == person["id"]


async def test_the_same_image_again_adds_nothing_and_is_answered_200(client: httpx.AsyncClient) -> None:
    first = await client.post(FACES, params={"person": "Ada"}, files=ADA)
    again = await client.post(FACES, params={"person": "Ada"}, files=ADA)
    assert (again.status_code, again.json()["created"], again.json()["faces"]) == (200, False, [])
    assert [one["reason"] for one in again.json()["rejected"]] == ["duplicate-picture"]
    assert again.json()["person"] == first.json()["person"]
    assert [one["faces"] for one in await people(client)] == [1]


async def test_another_image_is_added_to_the_same_person(client: httpx.AsyncClient) -> None:
    await client.post(FACES, params={"person": "Ada"}, files=ADA)
    other = {"image": ("other.jpg", draw_people(["Ada"], size=(300, 300)))}
    answer = await client.post(FACES, params={"person": "Ada"}, files=other)
    assert (answer.status_code, answer.json()["created"], answer.json()["person"]["faces"]) == (201, False, 2)


async def test_equal_requests_at_the_same_time_make_one_person_with_one_face(client: httpx.AsyncClient) -> None:
    sent = [client.post(FACES, params={"person": "Ada"}, files=ADA) for _ in range(4)]
    answers = await asyncio.gather(*sent)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert [one["faces"] for one in await people(client)] == [1]


async def test_an_embedding_is_enrolled_once(client: httpx.AsyncClient) -> None:
    embedding = {"embedding": [1.0] + [0.0] * 511}
    answers = [await client.post(FACES, params={"person": "Ada"}, json=embedding) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert [one["reason"] for one in answers[1].json()["rejected"]] == ["duplicate-embedding"]
    assert [one["faces"] for one in await people(client)] == [1]


async def test_without_a_usable_image_no_person_is_created(client: httpx.AsyncClient) -> None:
    answer = await client.post(FACES, params={"person": "Ada"}, files={"image": draw_nobody()})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:no-face-found")
    assert await people(client) == []


async def test_an_external_id_tells_people_of_one_name_apart(client: httpx.AsyncClient) -> None:
    for badge in ("17", "18"):
        answer = await client.post(FACES, params={"person": "Ada", "external_id": badge}, files=ADA)
        assert (answer.status_code, answer.json()["created"]) == (201, True)
    again = await client.post(FACES, params={"external_id": "17"}, files=ADA)
    assert (again.status_code, again.json()["person"]["external_id"]) == (200, "17")
    unclear = await client.post(FACES, params={"person": "Ada"}, files=ADA)
    assert (unclear.status_code, unclear.json()["type"]) == (409, "urn:face-identity:conflict")
    assert "external_id" in unclear.json()["detail"]


async def test_a_name_finds_the_only_person_of_that_name(client: httpx.AsyncClient) -> None:
    made = await client.post(PEOPLE, json={"name": "Ada", "external_id": "17"})
    answer = await client.post(FACES, params={"person": "Ada"}, files=ADA)
    assert (answer.json()["created"], answer.json()["person"]["id"]) == (False, made.json()["id"])


async def test_an_external_id_of_a_person_with_another_name_is_a_conflict(client: httpx.AsyncClient) -> None:
    await client.post(PEOPLE, json={"name": "Eve", "external_id": "17"})
    answer = await client.post(FACES, params={"person": "Ada", "external_id": "17"}, files=ADA)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:face-identity:conflict")
    assert "Eve" not in answer.text
    assert [one["faces"] for one in await people(client)] == [0]


async def test_a_new_person_without_a_name_gets_the_external_id_as_name(client: httpx.AsyncClient) -> None:
    answer = await client.post(FACES, params={"external_id": "17"}, files=ADA)
    assert (answer.json()["person"]["name"], answer.json()["person"]["external_id"]) == ("17", "17")


async def test_somebody_must_be_named(client: httpx.AsyncClient) -> None:
    answer = await client.post(FACES, files=ADA)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")
    assert "external_id" in answer.json()["detail"]
