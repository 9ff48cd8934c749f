"""Recognition, verification and comparison over HTTP: the response formats that clients rely on."""

import uuid

import httpx
import pytest
from fastapi import FastAPI

from service.access.keys import create_key
from service.access.operator import operator_transaction
from service.access.quotas import Quotas
from service.access.tenants import create_tenant
from service.database.connection import Database
from service.database.session import tenant_session
from service.encoder.fake_pictures import draw_nobody, draw_people
from tests.support.server import open_client

RECOGNIZE = "/v1/galleries/staff/recognize"


def picture(*names: str) -> dict[str, tuple[str, bytes]]:
    return {"image": ("probe.jpg", draw_people(names))}


@pytest.fixture
async def ada(client: httpx.AsyncClient) -> str:
    """The id of Ada, enrolled alone in the gallery `staff`."""
    await client.post("/v1/galleries", json={"name": "staff"})
    person = (await client.post("/v1/galleries/staff/people", json={"name": "Ada"})).json()["id"]
    await client.post(f"/v1/galleries/staff/people/{person}/faces", files=picture("Ada"))
    return str(person)


async def test_each_face_of_an_image_gets_its_own_decision(client: httpx.AsyncClient, ada: str) -> None:
    answer = (await client.post(RECOGNIZE, files=picture("Ada", "a stranger"))).json()
    assert answer["threshold"] == 0.5
    known, stranger = sorted(answer["faces"], key=lambda face: face["box"]["left"])
    assert known.keys() == {"box", "detection_score", "quality", "decision", "match", "candidates"}
    assert known["box"].keys() == {"left", "top", "right", "bottom"}
    assert (known["decision"], known["match"]["person"]) == ("match", {"id": ada, "name": "Ada", "external_id": None})
    assert known["match"]["similarity"] > 0.9
    assert known["candidates"][0].keys() == {"person", "similarity", "face"}
    assert (stranger["decision"], stranger["match"]) == ("no_match", None)
    assert [one["person"]["id"] for one in stranger["candidates"]] == [ada]


async def test_an_image_without_a_face_has_no_faces(client: httpx.AsyncClient, ada: str) -> None:
    answer = await client.post(RECOGNIZE, files={"image": ("nobody.jpg", draw_nobody())})
    assert (answer.status_code, answer.json()["faces"]) == (200, [])


async def embedding_of(client: httpx.AsyncClient, name: str) -> list[float]:
    encoded = (await client.post("/v1/encode", files=picture(name))).json()
    assert (encoded["embedding_space"]["name"], encoded["embedding_space"]["dimension"]) == ("fake", 512)
    return list(encoded["faces"][0]["embedding"])


async def test_an_embedding_is_a_probe_without_a_box(client: httpx.AsyncClient, ada: str) -> None:
    probe = await embedding_of(client, "Ada")
    (face,) = (await client.post(RECOGNIZE, json={"embedding": probe})).json()["faces"]
    assert (face["box"], face["detection_score"], face["quality"]) == (None, None, None)
    assert face["match"]["person"]["id"] == ada


async def test_embeddings_are_answered_in_their_order(client: httpx.AsyncClient, ada: str) -> None:
    known, stranger = await embedding_of(client, "Ada"), await embedding_of(client, "a stranger")
    probes = [stranger, known] * 20
    faces = (await client.post(RECOGNIZE, json={"embeddings": probes})).json()["faces"]
    assert [face["decision"] for face in faces] == ["no_match", "match"] * 20


async def test_threshold_and_limit_apply_to_one_request(client: httpx.AsyncClient, ada: str) -> None:
    eve = (await client.post("/v1/galleries/staff/people", json={"name": "Eve"})).json()["id"]
    await client.post(f"/v1/galleries/staff/people/{eve}/faces", files=picture("Eve"))
    answer = (await client.post(RECOGNIZE, files=picture("a stranger"), params={"threshold": 0, "limit": 1})).json()
    assert (answer["threshold"], answer["faces"][0]["decision"]) == (0, "match")
    assert len(answer["faces"][0]["candidates"]) == 1


@pytest.mark.parametrize("query", [{"threshold": "nan"}, {"threshold": 2}, {"limit": 0}, {"limit": 101}])
async def test_a_wrong_threshold_or_limit_is_refused(
    query: dict[str, str], client: httpx.AsyncClient, ada: str
) -> None:
    answer = await client.post(RECOGNIZE, files=picture("Ada"), params=query)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [f"query.{next(iter(query))}"]


async def test_a_person_is_verified_and_another_is_not(client: httpx.AsyncClient, ada: str) -> None:
    place = f"/v1/galleries/staff/people/{ada}/verify"
    yes = (await client.post(place, files=picture("Ada"))).json()
    assert {"verified", "similarity", "threshold"} <= yes.keys()
    assert (yes["verified"], yes["threshold"]) == (True, 0.5)
    assert (await client.post(place, files=picture("Eve"))).json()["verified"] is False
    assert (await client.post(place, json={"embedding": await embedding_of(client, "Ada")})).json()["verified"] is True
    nobody = await client.post(place, files={"image": ("nobody.jpg", draw_nobody())})
    assert (nobody.status_code, nobody.json()["type"]) == (422, "urn:face-identity:no-face-found")


async def test_two_images_are_compared_without_a_gallery(client: httpx.AsyncClient) -> None:
    same = [("image", ("a.jpg", draw_people(["Ada"]))), ("image", ("b.jpg", draw_people(["Ada"], size=(200, 200))))]
    assert (await client.post("/v1/compare", files=same)).json()["verified"] is True
    other = [same[0], ("image", ("c.jpg", draw_people(["Eve"])))]
    assert (await client.post("/v1/compare", files=other)).json()["verified"] is False
    alone = await client.post("/v1/compare", files=same[:1])
    assert (alone.status_code, alone.json()["type"]) == (422, "urn:face-identity:invalid-request")


async def test_faces_are_detected_with_landmarks(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/v1/detect", files=picture("Ada", "Eve"))).json()
    assert len(answer["faces"]) == 2
    assert all(len(face["landmarks"]) == 5 for face in answer["faces"])
    assert answer["width"] > answer["height"]


async def test_the_error_names_an_encoder_that_is_not_loaded(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/detect", files=picture("Ada"), params={"encoder": "insightface:nothing"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:unknown-encoder")
    assert "insightface:nothing" in answer.json()["detail"]


async def test_people_of_one_name_are_told_apart_by_external_id_and_metadata(client: httpx.AsyncClient) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    for badge in ("17", "18"):
        query = {"person": "Ada", "external_id": badge}
        answer = await client.post("/v1/galleries/staff/faces", params=query, files=picture(f"Ada {badge}"))
        made = answer.json()["person"]["id"]
        await client.patch(f"/v1/galleries/staff/people/{made}", json={"metadata": {"floor": int(badge)}})
    plain = (await client.post(RECOGNIZE, files=picture("Ada 18"))).json()["faces"][0]
    assert plain["match"]["person"].keys() == {"id", "name", "external_id"}
    assert plain["match"]["person"]["external_id"] == "18"
    full = (await client.post(RECOGNIZE, params={"include": "metadata"}, files=picture("Ada 18"))).json()["faces"][0]
    assert full["match"]["person"]["metadata"] == {"floor": 18}
    assert [one["person"]["metadata"]["floor"] for one in full["candidates"]] == [18, 17]
    place = f"/v1/galleries/staff/people/{made}/verify"
    verified = (await client.post(place, params={"include": "metadata"}, files=picture("Ada 18"))).json()["person"]
    assert verified == {"id": made, "name": "Ada", "external_id": "18", "metadata": {"floor": 18}}
    assert "metadata" not in (await client.post(place, files=picture("Ada 18"))).json()["person"]


async def test_metadata_is_included_over_several_galleries(client: httpx.AsyncClient, ada: str) -> None:
    await client.patch(f"/v1/galleries/staff/people/{ada}", json={"metadata": {"floor": 3}})
    answer = await client.post("/v1/recognize?gallery=staff&include=metadata", files=picture("Ada"))
    assert answer.json()["faces"][0]["match"]["person"]["metadata"] == {"floor": 3}


async def test_only_metadata_can_be_included(client: httpx.AsyncClient, ada: str) -> None:
    answer = await client.post(RECOGNIZE, params={"include": "embedding"}, files=picture("Ada"))
    assert answer.status_code == 422


async def test_a_comparison_tells_both_faces(client: httpx.AsyncClient) -> None:
    images = [
        ("image", ("small.jpg", draw_people(["Ada"], size=(100, 100)))),
        ("image", ("large.jpg", draw_people(["Ada"], size=(300, 300)))),
    ]
    answer = (await client.post("/v1/compare", files=images)).json()
    first, second = answer["faces"]
    assert first.keys() == second.keys() == {"box", "detection_score", "quality"}
    assert first["box"]["right"] <= 100 < second["box"]["right"]
    assert (answer["box"], "person" in answer) == (second["box"], False)


async def test_every_similarity_is_rounded_alike(client: httpx.AsyncClient, ada: str) -> None:
    """Recognition, verification and comparison of the same two faces show the same number."""
    probe, reference = draw_people(["Ada"], size=(123, 150)), draw_people(["Ada"])
    recognized = (await client.post(RECOGNIZE, files={"image": probe})).json()["faces"][0]["match"]["similarity"]
    place = f"/v1/galleries/staff/people/{ada}/verify"
    verified = (await client.post(place, files={"image": probe})).json()["similarity"]
    pair = [("image", reference), ("image", probe)]
    compared = (await client.post("/v1/compare", files=pair)).json()["similarity"]
    assert recognized == verified
    assert compared == pytest.approx(verified, abs=1e-3)  # stored references are half vectors
    for similarity in (recognized, verified, compared):
        assert similarity == round(similarity, 6)


async def test_a_thousand_probes_cost_more_than_one_request(application: FastAPI, database: Database) -> None:
    async with operator_transaction(database.engine) as connection:
        quotas = Quotas(requests_per_minute=30)
        number = await create_tenant(connection, f"tenant-{uuid.uuid4().hex[:12]}", quotas)
    async with tenant_session(database.engine, number) as session:
        _, key = await create_key(session, "test", ["recognize", "enroll", "probe"])
        await session.commit()
    many = {"embeddings": [[1.0, 0.0]] * 1000}
    async with open_client(application, key) as client:
        await client.post("/v1/galleries", json={"name": "staff", "embedding_space": "external:test:2"})
        answers = [await client.post(RECOGNIZE, json=many) for _ in range(5)]
    statuses = [answer.status_code for answer in answers]
    assert 200 in statuses[:2]
    assert 429 in statuses  # five requests of 10 units each, within the minute that the limit of 30 units is for
    assert answers[statuses.index(429)].json()["type"] == "urn:face-identity:too-many-requests"
