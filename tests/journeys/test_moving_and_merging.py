"""Moving a face to another person, and merging two people into one."""

from typing import Any

import httpx
import pytest

from service.encoder.fake_pictures import draw_people
from tests.support.server import MakeClient

PEOPLE = "/v1/galleries/staff/people"


def image(name: str, variation: int = 0) -> dict[str, tuple[str, bytes]]:
    return {"image": (f"{name}-{variation}.jpg", draw_people([name], variation=variation))}


async def create(client: httpx.AsyncClient, name: str, people: str = PEOPLE) -> str:
    return str((await client.post(people, json={"name": name})).json()["id"])


async def add_face(client: httpx.AsyncClient, person: str, files: dict[str, tuple[str, bytes]]) -> str:
    added = await client.post(f"{PEOPLE}/{person}/faces", files=files)
    return str(added.json()["faces"][0]["id"])


async def face_ids(client: httpx.AsyncClient, person: str) -> list[str]:
    listed = (await client.get(f"{PEOPLE}/{person}/faces")).json()
    return [face["id"] for face in listed["items"]]


async def recognized(client: httpx.AsyncClient, name: str) -> Any:
    """The person that the service recognizes in an image of `name`, or None."""
    answer = await client.post("/v1/galleries/staff/recognize", files=image(name, 9))
    match = answer.json()["faces"][0]["match"]
    return match and match["person"]["id"]


@pytest.fixture
async def ada(client: httpx.AsyncClient) -> str:
    """The id of Ada, who has no face yet, in the new gallery `staff`."""
    await client.post("/v1/galleries", json={"name": "staff"})
    return await create(client, "Ada")


async def test_a_face_enrolled_for_the_wrong_person_is_moved(client: httpx.AsyncClient, ada: str) -> None:
    eve = await create(client, "Eve")
    own, wrong = await add_face(client, ada, image("Ada")), await add_face(client, ada, image("Eve"))
    assert await recognized(client, "Eve") == ada

    moved = await client.post(f"{PEOPLE}/{ada}/faces/{wrong}/move", json={"to": eve})
    assert (moved.status_code, moved.json()["id"], moved.json()["faces"]) == (200, eve, 1)

    assert (await face_ids(client, ada), await face_ids(client, eve)) == ([own], [wrong])
    assert (await recognized(client, "Ada"), await recognized(client, "Eve")) == (ada, eve)


async def test_two_entries_of_one_person_are_merged(client: httpx.AsyncClient, ada: str) -> None:
    again = await create(client, "Ada (visitor)")
    faces = [await add_face(client, ada, image("Ada", 1)), await add_face(client, again, image("Ada", 2))]
    changed = await client.patch(f"{PEOPLE}/{ada}", json={"external_id": "e-17", "metadata": {"floor": 3}})

    merged = await client.post(f"{PEOPLE}/{ada}/merge", json={"from": again})
    assert (merged.status_code, merged.json()) == (200, changed.json() | {"faces": 2})

    assert sorted(await face_ids(client, ada)) == sorted(faces)
    assert (await client.get(f"{PEOPLE}/{again}")).status_code == 404
    assert await recognized(client, "Ada") == ada
    gallery = (await client.get("/v1/galleries/staff")).json()
    assert (gallery["people"], gallery["faces"]) == (1, 2)


async def test_ids_of_a_body_are_named_with_their_field(client: httpx.AsyncClient, ada: str) -> None:
    face = await add_face(client, ada, image("Ada"))
    await client.post("/v1/galleries", json={"name": "visitors"})
    stranger = await create(client, "Eve", "/v1/galleries/visitors/people")
    requests = {"to": f"{PEOPLE}/{ada}/faces/{face}/move", "from": f"{PEOPLE}/{ada}/merge"}
    for field, path in requests.items():
        for unknown in (stranger, "nobody", "0" * 13):
            refused = await client.post(path, json={field: unknown})
            assert (refused.status_code, refused.json()["detail"].startswith(f"{field}: ")) == (404, True)
        same = await client.post(path, json={field: ada})
        assert (same.status_code, same.json()["detail"].startswith(f"{field}: ")) == (422, True)
        for body in ({}, {field: None}, {field: 7}, {field: ada, "more": 1}):
            wrong = await client.post(path, json=body)
            assert wrong.status_code == 422
            assert wrong.json()["errors"][0]["field"] in {f"body.{field}", "body.more"}
    assert await face_ids(client, ada) == [face]


async def test_a_face_is_moved_only_from_the_person_of_the_path(client: httpx.AsyncClient, ada: str) -> None:
    eve, zoe = await create(client, "Eve"), await create(client, "Zoe")
    face = await add_face(client, eve, image("Eve"))
    assert (await client.post(f"{PEOPLE}/{ada}/faces/{face}/move", json={"to": zoe})).status_code == 404
    assert (await face_ids(client, eve), await face_ids(client, zoe)) == ([face], [])


@pytest.mark.parametrize("missing", ["enroll", "erase"])
async def test_moving_and_merging_need_the_scopes_enroll_and_erase(
    missing: str, client: httpx.AsyncClient, ada: str, make_client: MakeClient, tenant_id: int
) -> None:
    eve = await create(client, "Eve")
    face = await add_face(client, ada, image("Ada"))
    requests = [(f"{PEOPLE}/{ada}/faces/{face}/move", {"to": eve}), (f"{PEOPLE}/{ada}/merge", {"from": eve})]
    limited = await make_client(tenant_id, [scope for scope in ("enroll", "erase") if scope != missing])
    both = await make_client(tenant_id, ["enroll", "erase"])
    for path, body in requests:
        refused = await limited.post(path, json=body)
        assert (refused.status_code, missing in refused.json()["detail"]) == (403, True)
    assert await face_ids(client, ada) == [face]
    assert [(await both.post(path, json=body)).status_code for path, body in requests] == [200, 200]
