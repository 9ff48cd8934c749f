"""An image as a form, as the body itself, or as base64 in JSON: each route answers all of them the same."""

import base64
import contextlib
import math
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_people
from service.errors import ImageTooLarge, Overloaded
from service.http.base64_images import decode_base64_image
from service.turns import act_for

IMAGE = draw_people(["Ada"])
BASE64 = base64.b64encode(IMAGE).decode()
ROUTES = [
    "/v1/detect",
    "/v1/encode",
    "/v1/galleries/staff/recognize",
    "/v1/recognize?gallery=staff",
    "/v1/galleries/staff/people/{ada}/verify",
    "/v1/galleries/staff/people/{eve}/faces",
    "/v1/galleries/staff/faces?person=Grace",
]
FORMS: dict[str, dict[str, Any]] = {
    "the field image": {"files": {"image": ("image 1", IMAGE)}},
    "the field file": {"files": {"file": ("image 1", IMAGE)}},
    "a JPEG": {"content": IMAGE, "headers": {"content-type": "image/jpeg"}},
    "a PNG that is a JPEG": {"content": IMAGE, "headers": {"content-type": "image/png"}},
    "bytes": {"content": IMAGE, "headers": {"content-type": "application/octet-stream"}},
    "base64": {"json": {"image": BASE64}},
    "a data URI": {"json": {"image": f"data:image/jpeg;base64,{BASE64}"}},
    "base64 for URLs": {"json": {"image": base64.urlsafe_b64encode(IMAGE).decode().rstrip("=")}},
    "base64 in lines": {"json": {"image": base64.encodebytes(IMAGE).decode()}},
}


@pytest.fixture
async def people(client: httpx.AsyncClient) -> dict[str, str]:
    """The ids of Ada, who has a reference, and of Eve, who has none."""
    await client.post("/v1/galleries", json={"name": "staff"})
    made = {}
    for name in ("Ada", "Eve"):
        made[name.lower()] = (await client.post("/v1/galleries/staff/people", json={"name": name})).json()["id"]
    picture = draw_people(["Ada"], size=(300, 300))
    await client.post(f"/v1/galleries/staff/people/{made['ada']}/faces", files={"image": picture})
    return made


@pytest.mark.parametrize("route", ROUTES)
async def test_every_form_of_an_image_gets_the_same_answer(
    route: str, client: httpx.AsyncClient, people: dict[str, str]
) -> None:
    answers = {}
    for name, form in FORMS.items():
        answer = await client.post(route.format(**people), **form)
        answers[name] = (answer.status_code, _without_what_is_new(answer.json()))
        if (faces := answer.json().get("faces")) and "person" in faces[0] and "id" in faces[0]:
            owner = faces[0]["person"]
            erased = await client.delete(f"/v1/galleries/staff/people/{owner}/faces/{faces[0]['id']}")
            assert erased.status_code == 204
    expected = answers["the field image"]
    assert expected[0] < 300, expected
    assert {name: answer for name, answer in answers.items() if answer != expected} == {}


def _without_what_is_new(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer without new ids and times."""
    if "rejected" not in answer:
        return answer
    kept = {"source", "detection"}
    faces = [{name: value for name, value in face.items() if name in kept} for face in answer["faces"]]
    return {"faces": faces, "rejected": answer["rejected"], "warnings": answer["warnings"]}


@pytest.mark.parametrize("route", [route for route in ROUTES if route != "/v1/compare"])
@pytest.mark.parametrize(
    "form",
    [
        {"json": {"url": "https://example.org/a.jpg"}},
        {"json": {"image_url": "https://example.org/a.jpg"}},
        {"json": {"image": "https://example.org/a.jpg"}},
        {"files": {"url": (None, "https://example.org/a.jpg")}},
    ],
    ids=str,
)
async def test_an_address_is_refused_with_the_reason(
    route: str, form: dict[str, Any], client: httpx.AsyncClient, people: dict[str, str]
) -> None:
    answer = await client.post(route.format(**people), **form)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")
    assert "contacts nobody" in answer.json()["detail"]
    assert "example.org" not in answer.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("data:image/jpeg;base64,", "empty"),
        ("data:image/jpeg,abc", "data URI"),
        ("not base64!", "not base64"),
        ("ä" * 40, "not base64"),
        ("AAAA=AAAA", "not base64"),
        ("A", "not base64"),
    ],
)
async def test_a_text_that_is_not_base64_is_refused(text: str, says: str, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/detect", json={"image": text})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")
    assert says in answer.json()["detail"]


async def test_other_content_types_are_told_the_three_forms(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/detect", content=IMAGE, headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:face-identity:unsupported-media-type")
    assert all(form in answer.json()["detail"] for form in ("multipart/form-data", "image/jpeg", "application/json"))
    two = await client.post("/v1/compare", content=IMAGE, headers={"content-type": "image/jpeg"})
    assert (two.status_code, "2 images" in two.json()["detail"]) == (415, True)


LARGE = b"\xff" * (20 * 1024 * 1024 + 1)


@pytest.mark.parametrize(
    "form",
    [
        {"content": LARGE, "headers": {"content-type": "image/jpeg"}},
        {"json": {"image": base64.b64encode(LARGE).decode()}},
        {"files": {"image": LARGE}},
    ],
    ids=["raw", "base64", "form"],
)
async def test_an_image_over_the_limit_is_refused_in_every_form(
    form: dict[str, Any], client: httpx.AsyncClient
) -> None:
    answer = await client.post("/v1/detect", **form)
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:face-identity:image-too-large")


async def test_a_body_far_over_the_limit_is_not_read_as_json(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/detect", json={"image": "A" * (40 * 1024 * 1024)})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:face-identity:payload-too-large")


async def test_json_that_announces_no_image_keeps_the_small_limit(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/detect", json={"padding": "A" * (2 * 1024 * 1024), "image": BASE64})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:face-identity:payload-too-large")


@pytest.mark.parametrize("form", ["the field image", "a JPEG", "base64"])
async def test_every_form_is_charged_as_an_image(form: str, client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/keys", json={"name": "one image", "inferences_per_minute": 1})
    headers = {"X-API-Key": made.json()["key"]}
    arguments = FORMS[form] | {"headers": FORMS[form].get("headers", {}) | headers}
    answers = [(await client.post("/v1/detect", **arguments)).status_code for _ in range(2)]
    assert answers == [200, 429]


async def test_an_image_late_in_its_json_is_charged_too(client: httpx.AsyncClient) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    made = await client.post("/v1/keys", json={"name": "one image", "inferences_per_minute": 1})
    body = {"source": "x" * 4000, "image": BASE64}
    answers = [
        (
            await client.post(
                "/v1/galleries/staff/faces?person=Ada", json=body, headers={"X-API-Key": made.json()["key"]}
            )
        ).status_code
        for _ in range(2)
    ]
    assert answers == [201, 429]


@pytest.mark.parametrize("form", ["a JPEG", "base64"])
async def test_an_overloaded_server_refuses_images_in_every_form(
    form: str, application: FastAPI, client: httpx.AsyncClient, tenant_id: int
) -> None:
    with every_slot(application.state.server_state.encoders, tenant_id):
        refused = await client.post("/v1/detect", **FORMS[form])
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:face-identity:overloaded")


@pytest.mark.parametrize("form", ["a JPEG", "base64"])
async def test_an_image_that_finds_no_slot_is_not_charged(
    form: str, application: FastAPI, client: httpx.AsyncClient, tenant_id: int
) -> None:
    """A slot is reserved before the image is charged, so that a refusal costs the tenant nothing."""
    made = await client.post("/v1/keys", json={"name": "one image", "inferences_per_minute": 1})
    headers = FORMS[form].get("headers", {}) | {"X-API-Key": made.json()["key"]}
    arguments = FORMS[form] | {"headers": headers}
    with every_slot(application.state.server_state.encoders, tenant_id):
        refused = await client.post("/v1/detect", **arguments)
    assert (refused.status_code, (await client.post("/v1/detect", **arguments)).status_code) == (503, 200)


def every_slot(encoders: Encoders, tenant_id: int) -> contextlib.ExitStack:
    """Reserve slots for the tenant until there are no more. The result releases them; they do not expire.

    Slots of another tenant would not do: an image of a tenant that has none makes room for itself.
    """
    act_for(tenant_id)
    held = contextlib.ExitStack()
    with contextlib.suppress(Overloaded):
        while True:
            held.enter_context(encoders.reserve_slot()).expires = math.inf
    return held


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/galleries", "application/json"),
        ("POST", "/v1/detect", "application/json"),
        ("POST", "/v1/detect", "image/jpeg"),
        ("POST", "/v1/detect", "multipart/form-data; boundary=b"),
        ("POST", "/v1/galleries/staff/import", "application/json"),
    ],
)
async def test_a_compressed_body_is_refused_by_the_name_of_its_encoding(
    encoding: str, method: str, path: str, kind: str, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    headers = {"content-type": kind, "content-encoding": encoding}
    answer = await client.request(method, path, content=b"\x1f\x8b\x08\x00", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:face-identity:unsupported-media-type")
    assert encoding in answer.json()["detail"]


async def test_the_encoding_identity_is_no_compression(client: httpx.AsyncClient) -> None:
    headers = {"content-encoding": "identity"}
    assert (await client.post("/v1/galleries", json={"name": "staff"}, headers=headers)).status_code == 201


def test_a_text_over_the_limit_is_not_decoded() -> None:
    with pytest.raises(ImageTooLarge):
        decode_base64_image("A" * 16, limit_bytes=11)
    assert decode_base64_image("A" * 16, limit_bytes=12) == bytes(12)
