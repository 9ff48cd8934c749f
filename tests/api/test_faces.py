"""Faces over HTTP: enrolled from images or embeddings, listed, erased."""

from dataclasses import replace

import httpx
import pytest

from service.encoder.contract import QualityParts
from service.encoder.fake import FakeEncoder
from service.encoder.fake_pictures import draw_nobody, draw_people
from service.encoder.images.decode import ImageLimits, decode_image
from service.errors import DuplicatePicture, NearerToAnotherPerson, NotLive, ServiceError, SeveralFaces
from service.identity.review import shortcomings

PEOPLE = "/v1/galleries/staff/people"


@pytest.fixture
async def faces(client: httpx.AsyncClient) -> str:
    """The path of the faces of Ada, who has no face yet."""
    await client.post("/v1/galleries", json={"name": "staff"})
    person = (await client.post(PEOPLE, json={"name": "Ada"})).json()["id"]
    return f"{PEOPLE}/{person}/faces"


def image(name: str, data: bytes) -> tuple[str, tuple[str, bytes]]:
    return "image", (name, data)


async def test_usable_images_become_faces_and_the_others_are_rejected_by_name(
    client: httpx.AsyncClient, faces: str
) -> None:
    pictures = [
        image("ada.jpg", draw_people(["Ada"])),
        image("nobody.jpg", draw_nobody()),
        image("text.jpg", b"not a picture"),
        image("two.jpg", draw_people(["Ada", "Eve"])),
    ]
    answer = await client.post(faces, files=pictures)
    assert answer.status_code == 201
    (face,) = answer.json()["faces"]
    assert (face["source"], face["detection"]["box"].keys()) == ("ada.jpg", {"left", "top", "right", "bottom"})
    assert [(one["image"], one["reason"]) for one in answer.json()["rejected"]] == [
        ("nobody.jpg", "no-face-found"),
        ("text.jpg", "unsupported-image-format"),
        ("two.jpg", "several-faces"),
    ]
    assert [one["id"] for one in (await client.get(faces)).json()["items"]] == [face["id"]]


async def test_without_a_usable_image_the_answer_is_the_problem_of_the_first(
    client: httpx.AsyncClient, faces: str
) -> None:
    answer = await client.post(faces, files=[image("nobody.jpg", draw_nobody())])
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:no-face-found")
    assert [one["image"] for one in answer.json()["rejected"]] == ["nobody.jpg"]
    assert (await client.get(faces)).json()["items"] == []


async def test_the_largest_of_several_faces_is_enrolled_on_request(client: httpx.AsyncClient, faces: str) -> None:
    pictures = [image("two.jpg", draw_people(["Ada", "Eve"]))]
    answer = await client.post(faces, files=pictures, params={"several": "largest"})
    assert len(answer.json()["faces"]) == 1


async def test_an_embedding_becomes_a_face_without_a_box(client: httpx.AsyncClient, faces: str) -> None:
    body = {"embedding": [1.0] * 512, "source": {"row": 7}}
    (face,) = (await client.post(faces, json=body)).json()["faces"]
    assert (face["detection"], face["source"]) == (None, {"row": 7})


async def test_an_embedding_that_the_person_has_is_refused(client: httpx.AsyncClient, faces: str) -> None:
    body = {"embedding": [1.0, 0.5] * 256}
    assert (await client.post(faces, json=body)).status_code == 201
    again = await client.post(faces, json=body | {"source": "another"})
    assert (again.status_code, again.json()["type"]) == (409, "urn:face-identity:duplicate-embedding")
    assert len((await client.get(faces)).json()["items"]) == 1


async def test_a_reference_of_somebody_else_is_enrolled_with_a_warning(client: httpx.AsyncClient, faces: str) -> None:
    pictures = [image(f"{name}.jpg", draw_people([name])) for name in ("Ada", "Eve")]
    answer = (await client.post(faces, files=pictures)).json()
    assert len(answer["faces"]) == 2
    (warning,) = answer["warnings"]
    assert (warning["image"], warning["reason"]) == ("Eve.jpg", "unlike-other-references")
    check = (await client.get("/v1/galleries/staff/check")).json()
    (found,) = check["inconsistent"]
    assert found["person"]["name"] == "Ada"
    assert [each["face"] for each in found["unlike"]] == [answer["faces"][1]["id"]]


async def test_a_check_lists_people_who_look_alike(client: httpx.AsyncClient, faces: str) -> None:
    await client.post(faces, json={"embedding": [1.0, 0.5] * 256})
    twin = (await client.post(PEOPLE, json={"name": "Adele", "external_id": "7"})).json()
    await client.post(f"{PEOPLE}/{twin['id']}/faces", json={"embedding": [1.0, 0.4] * 256})
    pairs = (await client.get("/v1/galleries/staff/check")).json()["look_alikes"]
    assert [(pair["person"]["name"], pair["other"]["name"]) for pair in pairs] == [("Ada", "Adele"), ("Adele", "Ada")]
    assert pairs[0]["other"] == {"id": twin["id"], "name": "Adele", "external_id": "7"}


async def test_a_check_needs_the_scopes_read_and_recognize(client: httpx.AsyncClient, faces: str) -> None:
    for scopes, status in ((["read"], 403), (["read", "recognize"], 200)):
        key = (await client.post("/v1/keys", json={"name": "one", "scopes": scopes})).json()["key"]
        answer = await client.get("/v1/galleries/staff/check", headers={"X-API-Key": key})
        assert answer.status_code == status, answer.text


async def test_a_response_never_contains_the_embedding(client: httpx.AsyncClient, faces: str) -> None:
    answer = await client.post(faces, json={"embedding": [0.734561] * 512})
    assert answer.status_code == 201
    assert "734561" not in answer.text + (await client.get(faces)).text


async def test_an_erased_face_is_never_found_again(client: httpx.AsyncClient, faces: str) -> None:
    (face,) = (await client.post(faces, files=[image("ada.jpg", draw_people(["Ada"]))])).json()["faces"]
    assert (await client.delete(f"{faces}/{face['id']}")).status_code == 204
    assert (await client.delete(f"{faces}/{face['id']}")).status_code == 404
    probe = await client.post("/v1/galleries/staff/recognize", files=[image("ada.jpg", draw_people(["Ada"]))])
    assert probe.json()["faces"][0]["candidates"] == []


async def test_a_gallery_of_external_embeddings_refuses_images_and_says_why(client: httpx.AsyncClient) -> None:
    await client.post("/v1/galleries", json={"name": "other", "embedding_space": "external:vendor:3"})
    person = (await client.post("/v1/galleries/other/people", json={"name": "Ada"})).json()["id"]
    place = f"/v1/galleries/other/people/{person}/faces"
    refused = await client.post(place, files=[image("ada.jpg", draw_people(["Ada"]))])
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:face-identity:embedding-space-mismatch")
    assert "external:vendor:3" in refused.json()["detail"]
    assert (await client.post(place, json={"embedding": [1, 0, 0]})).status_code == 201


async def test_every_reason_for_rejecting_an_image_is_documented(client: httpx.AsyncClient) -> None:
    encoder = FakeEncoder()
    face = encoder.detect(decode_image(draw_people(["Ada"]), ImageLimits(10**7, 10**7)))[0]
    encoder.close()
    worst = replace(face, quality_parts=QualityParts(0.0, 0.0, 0.0, 0.0, 0.0))
    kinds: set[type[ServiceError]] = {each.kind for each in shortcomings(worst, "strict")} | {NotLive}
    assert len(kinds) == 6
    kinds |= {SeveralFaces, DuplicatePicture, NearerToAnotherPerson}
    document = (await client.get("/openapi.json")).json()
    responses = document["paths"]["/v1/galleries/{gallery}/people/{person}/faces"]["post"]["responses"]
    for kind in kinds:
        assert kind.slug in responses[str(kind.status)]["content"]["application/problem+json"]["examples"]
        assert kind.slug in document["components"]["schemas"]["RejectionShape"]["properties"]["reason"]["description"]


async def test_the_problems_of_a_route_are_listed_beside_those_of_every_route(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for path in ("/v1/compare", "/v1/galleries/{gallery}/people/{person}/faces"):
        problem = document["paths"][path]["post"]["responses"]["422"]
        slugs = problem["content"]["application/problem+json"]["examples"].keys()
        assert {"invalid-request", "unreadable-image", "no-face-found", "not-live"} <= slugs
        assert "The request is not valid for this operation." in problem["description"]
