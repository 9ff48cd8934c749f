"""Forms: chunks of any size, any number of parts up to the limit, and images only."""

from collections.abc import AsyncIterator

import httpx
import pytest

from service.encoder.fake_pictures import draw_people

DETECT = "/v1/detect"
HEADERS = {"content-type": "multipart/form-data; boundary=b"}
HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_form_is_read_in_pieces_of_any_size(size: int, client: httpx.AsyncClient) -> None:
    form = HEAD + draw_people(["Ada"], size=(64, 64)) + b"\r\n--b--\r\n"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(form), size):
            yield form[start : start + size]

    answer = await client.post(DETECT, content=pieces(), headers=HEADERS)
    assert (answer.status_code, len(answer.json()["faces"])) == (200, 1)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (b"", "ends before"),
        (b"nonsense", "multipart/form-data"),
        (HEAD + b"data", "ends before"),
        (HEAD + b"data\r\n--b--\r\n" + b"epilogue", None),
        (b"--b--\r\n", "0 parts"),
        (HEAD.replace(b"image", b"picture", 1) + b"data\r\n--b--\r\n", "'picture'"),
        (2 * (HEAD + b"data\r\n") + b"--b--\r\n", "more than 1"),
        (b"--b\r\n\r\ndata\r\n--b--\r\n", "''"),
    ],
)
async def test_an_invalid_form_is_refused(form: bytes, says: str | None, client: httpx.AsyncClient) -> None:
    answer = await client.post(DETECT, content=form, headers=HEADERS)
    if says is None:
        assert answer.json()["type"] == "urn:face-identity:unsupported-image-format"
    else:
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")
        assert says in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=" + "b" * 300])
async def test_a_form_needs_a_valid_boundary(kind: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(DETECT, content=HEAD, headers={"content-type": kind})
    assert answer.status_code == 422
    assert "boundary" in answer.json()["detail"]


async def test_a_file_name_is_shown_printable_and_short(client: httpx.AsyncClient) -> None:
    await client.post("/v1/galleries", json={"name": "staff"})
    person = (await client.post("/v1/galleries/staff/people", json={"name": "Ada"})).json()["id"]
    files = {"image": ("x" * 1000 + "\u0007", b"text")}
    answer = await client.post(f"/v1/galleries/staff/people/{person}/faces", files=files)
    assert answer.json()["rejected"][0]["image"] == "x" * 200


@pytest.fixture
async def faces_path(client: httpx.AsyncClient) -> str:
    """The path of the faces of Ada in the gallery `staff` of the fresh tenant."""
    await client.post("/v1/galleries", json={"name": "staff"})
    person = (await client.post("/v1/galleries/staff/people", json={"name": "Ada"})).json()["id"]
    return f"/v1/galleries/staff/people/{person}/faces"


async def test_control_characters_in_a_file_name_are_replaced(client: httpx.AsyncClient, faces_path: str) -> None:
    form = HEAD.replace(b"a.jpg", "a\u001b[2J\u202eb.jpg".encode()) + b"text\r\n--b--\r\n"
    answer = await client.post(faces_path, content=form, headers=HEADERS)
    assert [rejection["image"] for rejection in answer.json()["rejected"]] == ["a?[2J?b.jpg"]


async def test_a_part_does_not_inherit_the_name_of_the_part_before(client: httpx.AsyncClient, faces_path: str) -> None:
    form = HEAD + b"text\r\n--b\r\nContent-Type: image/jpeg\r\n\r\ntext\r\n--b--\r\n"
    answer = await client.post(faces_path, content=form, headers=HEADERS)
    assert answer.status_code == 422
    assert "unexpected part ''" in answer.json()["detail"]


async def test_an_import_accepts_only_one_file(client: httpx.AsyncClient) -> None:
    await client.post("/v1/galleries", json={"name": "staff", "embedding_space": "external:test:3"})
    row = b'{"person": "Ada", "embedding": [1, 2, 3]}\r\n'
    form = 2 * (HEAD + row) + b"--b--\r\n"
    answer = await client.post("/v1/galleries/staff/import", content=form, headers=HEADERS)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:face-identity:invalid-request")
    assert "only one file" in answer.json()["detail"]
