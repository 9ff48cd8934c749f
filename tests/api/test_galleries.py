"""Galleries over HTTP."""

import httpx
import pytest

from tests.support.server import MakeClient


async def test_a_gallery_is_created_shown_changed_and_erased(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/galleries", json={"name": "staff"})
    assert made.status_code == 201
    assert {"name": "staff", "embedding_space": "fake", "threshold": 0.5}.items() <= made.json().items()

    renamed = await client.patch("/v1/galleries/staff", json={"name": "people", "threshold": 0.75})
    assert (renamed.json()["name"], renamed.json()["threshold"]) == ("people", 0.75)

    assert (await client.get("/v1/galleries/staff")).status_code == 404
    shown = (await client.get("/v1/galleries/people")).json()
    assert (shown["people"], shown["faces"], shown["own_threshold"]) == (0, 0, 0.75)

    erased = await client.delete("/v1/galleries/people")
    assert (erased.status_code, erased.content) == (204, b"")
    assert (await client.get("/v1/galleries/people")).status_code == 404


async def test_a_null_threshold_resets_to_the_embedding_space(client: httpx.AsyncClient) -> None:
    await client.post("/v1/galleries", json={"name": "staff", "threshold": 0.9})
    untouched = await client.patch("/v1/galleries/staff", json={})
    assert untouched.json()["threshold"] == 0.9
    reset = await client.patch("/v1/galleries/staff", json={"threshold": None})
    assert (reset.json()["threshold"], reset.json()["own_threshold"]) == (0.5, None)


async def test_a_taken_name_is_a_conflict(client: httpx.AsyncClient) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    taken = await client.post("/v1/galleries", json={"name": "staff"})
    assert (taken.status_code, taken.json()["type"]) == (409, "urn:face-identity:conflict")


async def test_the_error_names_an_encoder_that_is_not_loaded(client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/galleries", json={"name": "staff", "embedding_space": "dlib"})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:face-identity:unknown-encoder")
    assert "dlib" in refused.json()["detail"]
    assert "fake" in refused.json()["detail"]


async def test_the_cursor_continues_a_list(client: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await client.post("/v1/galleries", json={"name": name})
    first = (await client.get("/v1/galleries", params={"limit": 2})).json()
    second = (await client.get("/v1/galleries", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [gallery["name"] for gallery in first["items"] + second["items"]] == ["a", "b", "c"]
    assert second["next_cursor"] is None


async def test_a_path_may_hold_a_name_with_spaces_signs_and_emoji(client: httpx.AsyncClient) -> None:
    name = "Büro 3? 50% #1 🦊"
    await client.post("/v1/galleries", json={"name": name})
    shown = await client.get(httpx.URL("http://service").copy_with(raw_path=b"/v1/galleries/" + quoted(name)))
    assert shown.json()["name"] == name


async def test_a_limited_key_creates_and_renames_only_its_own_galleries(
    client: httpx.AsyncClient, make_client: MakeClient, tenant_id: int
) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    limited = await make_client(tenant_id, galleries=["visitors"])
    assert (await limited.post("/v1/galleries", json={"name": "others"})).status_code == 403
    assert (await limited.post("/v1/galleries", json={"name": "visitors"})).status_code == 201
    assert (await limited.patch("/v1/galleries/visitors", json={"name": "others"})).status_code == 403
    assert [gallery["name"] for gallery in (await limited.get("/v1/galleries")).json()["items"]] == ["visitors"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "staff", "threshhold": 0.5}, "body.threshhold"),
        ({"name": "staff", "threshold": 1.5}, "body.threshold"),
        ({"name": 7}, "body.name"),
        ({}, "body.name"),
    ],
)
async def test_the_error_names_a_wrong_field_but_not_its_value(
    body: dict[str, object], field: str, client: httpx.AsyncClient
) -> None:
    refused = await client.post("/v1/galleries", json=body)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:face-identity:invalid-request")
    assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert "1.5" not in refused.text


def quoted(name: str) -> bytes:
    """Percent-encode every byte, slashes too."""
    return "".join(f"%{byte:02X}" for byte in name.encode()).encode()
