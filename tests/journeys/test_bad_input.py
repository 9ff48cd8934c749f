"""Every mistake of a client has its own clear problem, and leaves nothing behind."""

import struct
import zlib

import httpx
import pytest

from service.access.key_format import new_key
from service.encoder.fake_pictures import draw_nobody, draw_people

STAFF = "/v1/galleries/staff"


@pytest.fixture
async def person(client: httpx.AsyncClient) -> str:
    """The path of Ada, who is enrolled alone in the gallery `staff`."""
    await client.post("/v1/galleries", json={"name": "staff"})
    made = (await client.post(f"{STAFF}/people", json={"name": "Ada"})).json()
    path = f"{STAFF}/people/{made['id']}"
    await client.post(f"{path}/faces", files=image(draw_people(["Ada"])))
    return path


def image(data: bytes) -> dict[str, tuple[str, bytes]]:
    return {"image": ("image.jpg", data)}


def truncated_jpeg() -> bytes:
    whole = draw_people(["Ada"])
    return whole[: len(whole) // 2]


def huge_png() -> bytes:
    """600 KB whose header claims 20,000 x 20,000 pixels. A decoder would report a broken file instead."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    noise = b"noise" * 120_000
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", noise) + chunk(b"IEND", b"")


IMAGES = {
    "text": (b"this is text", 415, "unsupported-image-format"),
    "empty": (b"", 415, "unsupported-image-format"),
    "truncated": (truncated_jpeg(), 422, "unreadable-image"),
    "huge": (huge_png(), 413, "image-too-large"),
}


@pytest.mark.parametrize("route", ["faces", "verify", "recognize", "detect", "encode"])
@pytest.mark.parametrize("kind", IMAGES)
async def test_each_kind_of_bad_image_has_its_own_problem(
    kind: str, route: str, client: httpx.AsyncClient, person: str
) -> None:
    data, status, slug = IMAGES[kind]
    path = {"recognize": f"{STAFF}/recognize", "detect": "/v1/detect", "encode": "/v1/encode"}.get(
        route, f"{person}/{route}"
    )
    answer = await client.post(path, files=image(data))
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:face-identity:{slug}")
    assert answer.json()["detail"]
    assert (await client.get(person)).json()["faces"] == 1


async def test_an_image_without_a_face_is_neither_enrolled_nor_verified(client: httpx.AsyncClient, person: str) -> None:
    for route in ("faces", "verify"):
        answer = await client.post(f"{person}/{route}", files=image(draw_nobody()))
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:no-face-found")
    nobody = await client.post(f"{STAFF}/recognize", files=image(draw_nobody()))
    assert (nobody.status_code, nobody.json()["faces"]) == (200, [])


EMBEDDINGS = [
    (b"[1, 2, 3]", "3 numbers, but fake has 512"),
    (b"[" + b"NaN," * 511 + b"NaN]", "NaN"),
    (b"[" + b"Infinity," * 511 + b"1]", "infinite"),
    (b"[" + b"1e39," * 511 + b"1]", "not finite"),
    (b"[" + b"0," * 511 + b"0]", "zero"),
    (b'["a"]', "embedding[0]"),
]


@pytest.mark.parametrize("route", ["faces", "verify", "recognize"])
@pytest.mark.parametrize(("values", "says"), EMBEDDINGS, ids=["length", "nan", "infinite", "too-great", "zero", "text"])
async def test_a_bad_embedding_is_refused_with_the_reason(
    values: bytes, says: str, route: str, client: httpx.AsyncClient, person: str
) -> None:
    path = f"{STAFF}/recognize" if route == "recognize" else f"{person}/{route}"
    headers = {"content-type": "application/json"}
    answer = await client.post(path, content=b'{"embedding": ' + values + b"}", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-embedding")
    assert says in answer.json()["detail"]
    assert (await client.get(person)).json()["faces"] == 1


async def test_a_request_without_a_valid_key_is_refused(anonymous: httpx.AsyncClient, tenant_id: int) -> None:
    for key in (None, "nonsense", new_key(tenant_id), new_key(1)):
        headers = {} if key is None else {"X-API-Key": key}
        answer = await anonymous.get("/v1/galleries", headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:face-identity:unauthenticated")
        assert key is None or key not in answer.text


async def test_a_gallery_of_another_tenant_looks_like_an_unknown_one(
    person: str, other_client: httpx.AsyncClient
) -> None:
    theirs = await other_client.get(person)
    unknown = await other_client.get("/v1/galleries/never-made")
    assert (theirs.status_code, unknown.status_code) == (404, 404)
    assert theirs.json()["detail"] == unknown.json()["detail"].replace("never-made", "staff")


async def test_a_name_of_ten_thousand_characters_is_refused_and_not_repeated(
    client: httpx.AsyncClient, person: str
) -> None:
    for path, name in (("/v1/galleries", "g" * 10_000), (f"{STAFF}/people", "p" * 10_000)):
        answer = await client.post(path, json={"name": name})
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")
        assert len(answer.text) < 500


async def test_emoji_and_slashes_in_a_name_are_returned_unchanged(client: httpx.AsyncClient, person: str) -> None:
    name = "Ada/../👩‍🚀 \\ %2F ?#"
    made = (await client.post(f"{STAFF}/people", json={"name": name})).json()
    path = f"{STAFF}/people/{made['id']}"
    await client.post(f"{path}/faces", files=image(draw_people(["astronaut"])))
    answer = (await client.post(f"{STAFF}/recognize", files=image(draw_people(["astronaut"])))).json()
    assert answer["faces"][0]["match"]["person"] == {"id": made["id"], "name": name, "external_id": None}
