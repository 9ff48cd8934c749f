"""Recognition over several galleries, with a metadata filter, and with the mean of several references."""

import re
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.encoder.fake_pictures import draw_people
from tests.support.server import MakeClient

RECOGNIZE = "/v1/recognize"
PAGE = (Path(__file__).parents[2] / "docs/http-api.md").read_text()


def image(*names: str) -> dict[str, tuple[str, bytes]]:
    return {"image": ("probe.jpg", draw_people(names, variation=5))}


async def enroll(client: httpx.AsyncClient, gallery: str, name: str, **fields: object) -> str:
    """Create a person with one face in a gallery, and return the person's id."""
    made = await client.post(f"/v1/galleries/{gallery}/people", json={"name": name, **fields})
    person = str(made.json()["id"])
    files = {"image": (f"{name}.jpg", draw_people([name]))}
    assert (await client.post(f"/v1/galleries/{gallery}/people/{person}/faces", files=files)).status_code == 201
    return person


@pytest.fixture
async def ids(client: httpx.AsyncClient) -> dict[str, str]:
    """The ids of Ada in the gallery `staff` and of Eve in the gallery `visitors`."""
    for gallery in ("staff", "visitors"):
        await client.post("/v1/galleries", json={"name": gallery})
    return {
        "Ada": await enroll(client, "staff", "Ada", metadata={"tags": ["vip", "night"], "floor": 3}),
        "Eve": await enroll(client, "visitors", "Eve", metadata={"tags": ["day"]}),
    }


async def test_each_candidate_names_its_gallery(client: httpx.AsyncClient, ids: dict[str, str]) -> None:
    answer = await client.post(f"{RECOGNIZE}?gallery=staff&gallery=visitors", files=image("Ada", "Eve"))
    faces = sorted(answer.json()["faces"], key=lambda face: face["box"]["left"])
    matches = [(face["match"]["person"], face["match"]["gallery"]) for face in faces]
    assert matches == [
        ({"id": ids["Ada"], "name": "Ada", "external_id": None}, "staff"),
        ({"id": ids["Eve"], "name": "Eve", "external_id": None}, "visitors"),
    ]
    for face in faces:
        assert {candidate["gallery"] for candidate in face["candidates"]} == {"staff", "visitors"}
        similarities = [candidate["similarity"] for candidate in face["candidates"]]
        assert similarities == sorted(similarities, reverse=True)


async def test_the_limit_holds_for_all_galleries_together(client: httpx.AsyncClient, ids: dict[str, str]) -> None:
    query = f"{RECOGNIZE}?gallery=visitors&gallery=staff&limit=1"
    (face,) = (await client.post(query, files=image("Ada"))).json()["faces"]
    assert [candidate["person"]["id"] for candidate in face["candidates"]] == [ids["Ada"]]


async def test_a_gallery_named_twice_is_searched_once(client: httpx.AsyncClient, ids: dict[str, str]) -> None:
    (face,) = (await client.post(f"{RECOGNIZE}?gallery=staff&gallery=staff", files=image("Ada"))).json()["faces"]
    assert [candidate["person"]["id"] for candidate in face["candidates"]] == [ids["Ada"]]
    assert face["candidates"][0]["gallery"] == "staff"


async def test_embeddings_are_recognized_in_several_galleries(client: httpx.AsyncClient, ids: dict[str, str]) -> None:
    encoded = (await client.post("/v1/encode", files=image("Eve"))).json()["faces"][0]["embedding"]
    answer = await client.post(f"{RECOGNIZE}?gallery=staff&gallery=visitors", json={"embeddings": [encoded] * 3})
    assert [face["match"]["gallery"] for face in answer.json()["faces"]] == ["visitors"] * 3


async def test_the_default_threshold_is_the_highest_of_the_galleries(
    client: httpx.AsyncClient, ids: dict[str, str]
) -> None:
    await client.patch("/v1/galleries/visitors", json={"threshold": 0.75})
    query = f"{RECOGNIZE}?gallery=staff&gallery=visitors"
    assert (await client.post(query, files=image("Ada"))).json()["threshold"] == 0.75
    assert (await client.post(f"{query}&threshold=0.25", files=image("Ada"))).json()["threshold"] == 0.25


async def test_galleries_of_two_embedding_spaces_cannot_be_searched_together(
    client: httpx.AsyncClient, ids: dict[str, str]
) -> None:
    await client.post("/v1/galleries", json={"name": "vendor", "embedding_space": "external:vendor:512"})
    body = {"embedding": [1.0] * 512}
    refused = await client.post(f"{RECOGNIZE}?gallery=staff&gallery=vendor", json=body)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:face-identity:embedding-space-mismatch")
    assert "external:vendor:512" in refused.json()["detail"]
    assert (await client.post(f"{RECOGNIZE}?gallery=vendor", json=body)).status_code == 200


async def test_a_gallery_for_verification_only_forbids_the_whole_search(
    client: httpx.AsyncClient, ids: dict[str, str]
) -> None:
    await client.patch("/v1/galleries/visitors", json={"verification_only": True})
    refused = await client.post(f"{RECOGNIZE}?gallery=staff&gallery=visitors", files=image("Ada"))
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:face-identity:forbidden")
    assert "visitors" in refused.json()["detail"]


async def test_one_unknown_gallery_or_one_outside_the_key_is_not_found(
    client: httpx.AsyncClient, ids: dict[str, str], make_client: MakeClient, tenant_id: int
) -> None:
    missing = await client.post(f"{RECOGNIZE}?gallery=staff&gallery=nowhere", files=image("Ada"))
    assert (missing.status_code, "nowhere" in missing.json()["detail"]) == (404, True)
    limited = await make_client(tenant_id, galleries=["staff"])
    hidden = await limited.post(f"{RECOGNIZE}?gallery=staff&gallery=visitors", files=image("Ada"))
    assert (hidden.status_code, hidden.json()["detail"]) == (
        404,
        missing.json()["detail"].replace("nowhere", "visitors"),
    )
    assert (await limited.post(f"{RECOGNIZE}?gallery=staff", files=image("Ada"))).status_code == 200


@pytest.mark.parametrize("query", ["", "&".join(f"gallery=g{number}" for number in range(21))])
async def test_one_to_twenty_galleries_are_required(query: str, client: httpx.AsyncClient) -> None:
    refused = await client.post(f"{RECOGNIZE}?{query}", files=image("Ada"))
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "query.gallery")


@pytest.mark.parametrize("path", ["/v1/galleries/staff/recognize?", "/v1/recognize?gallery=staff&gallery=visitors&"])
async def test_a_metadata_filter_limits_the_candidates(
    path: str, client: httpx.AsyncClient, ids: dict[str, str]
) -> None:
    for metadata, names in [
        ('{"tags": ["vip"]}', ["Ada"]),
        ('{"tags": ["vip"], "floor": 3}', ["Ada"]),
        ('{"tags": ["vip"], "floor": 4}', []),
    ]:
        url = httpx.URL(f"http://service{path}").copy_add_param("metadata", metadata)
        answer = await client.post(url, files=image("Ada"))
        (face,) = answer.json()["faces"]
        assert [candidate["person"]["name"] for candidate in face["candidates"]] == names
        assert face["decision"] == ("match" if names else "no_match")


async def test_the_mean_of_several_references_decides(client: httpx.AsyncClient) -> None:
    """Two people: one has the single nearest reference, the other the better mean of two."""
    await client.post("/v1/galleries", json={"name": "old", "embedding_space": "external:vendor:4"})
    probe = [1.0, 0.0, 0.0, 0.0]
    for name, cosines in {"Spiky": (0.99, 0.0), "Steady": (0.9, 0.9)}.items():
        person = (await client.post("/v1/galleries/old/people", json={"name": name})).json()["id"]
        for cosine in cosines:
            embedding = [cosine, float(np.sqrt(1 - cosine**2)), 0.0, 0.0]
            await client.post(f"/v1/galleries/old/people/{person}/faces", json={"embedding": embedding})
    nearest = {}
    for mean_of in (1, 2, 100):
        for path in ("/v1/galleries/old/recognize", RECOGNIZE):
            query: dict[str, str | int] = {"mean_of": mean_of} | ({"gallery": "old"} if path == RECOGNIZE else {})
            answer = await client.post(path, json={"embedding": probe}, params=query)
            nearest[path, mean_of] = answer.json()["faces"][0]["candidates"][0]["person"]["name"]
    assert set(nearest.values()) == {"Spiky", "Steady"}
    assert {mean_of for (_, mean_of), name in nearest.items() if name == "Spiky"} == {1}


@pytest.mark.parametrize(
    ("field", "value"),
    [("metadata", "[1]"), ("metadata", "{"), ("metadata", '{"a": "\\u0000"}'), ("mean_of", "0"), ("mean_of", "101")],
)
async def test_the_error_names_a_wrong_option(
    field: str, value: str, client: httpx.AsyncClient, ids: dict[str, str]
) -> None:
    for path, galleries in (("/v1/galleries/staff/recognize", {}), (RECOGNIZE, {"gallery": "staff"})):
        refused = await client.post(path, files=image("Ada"), params={**galleries, field: value})
        assert refused.status_code == 422
        assert [error["field"] for error in refused.json()["errors"]] == [f"query.{field}"]


async def test_the_query_of_the_documentation_works(client: httpx.AsyncClient, ids: dict[str, str]) -> None:
    (query,) = re.findall(r"QUERY='(.*)'", PAGE)
    (face,) = (await client.post(f"{RECOGNIZE}?{query}", files=image("Ada"))).json()["faces"]
    assert [candidate["person"]["id"] for candidate in face["candidates"]] == [ids["Ada"]]
