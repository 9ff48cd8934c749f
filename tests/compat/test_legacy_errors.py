"""Errors of the legacy dialect: `{"error": "..."}`, with 400 for every fault of the request."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import Request

from service.compat.legacy.errors import answer_error
from service.encoder.fake_pictures import draw_people
from service.errors import QuotaExceeded
from service.settings import Settings
from tests.compat.test_legacy_callers import Field, form_data, post

IMAGE = draw_people(["ada"])


def assert_refused(answer: httpx.Response, *words: str) -> None:
    assert (answer.status_code, list(answer.json())) == (400, ["error"]), answer.text
    for word in words:
        assert word in answer.json()["error"]


@pytest.mark.parametrize("path", ["/detector/image", "/encoder/image"])
@pytest.mark.parametrize(
    ("data", "word"),
    [(b"this is not an image", "JPEG"), (IMAGE[:2000], ""), (b"", ""), (b"%PDF-1.7", "a PDF document")],
)
async def test_a_file_that_is_not_an_image_is_refused(
    client: httpx.AsyncClient, path: str, data: bytes, word: str
) -> None:
    assert_refused(await post(client, path, ("file", data, "a.jpg")), word)


@pytest.mark.parametrize(
    ("path", "fields", "missing"),
    [
        ("/detector/image", [("image", IMAGE, "a.jpg")], "`file`"),
        ("/encoder/image", [("files", IMAGE, "a.jpg")], "`file`"),
        ("/encoder/images", [("files", IMAGE, "a.jpg")], "`key`"),
        ("/encoder/images", [("key", "ada", None)], "`files`"),
        ("/recognizer/image", [("dataset", b"[]", "d.json")], "`file`"),
        ("/recognizer/image", [("file", IMAGE, "a.jpg")], "`dataset`"),
    ],
)
async def test_a_missing_field_is_named(
    client: httpx.AsyncClient, path: str, fields: list[Field], missing: str
) -> None:
    assert_refused(await post(client, path, *fields), missing)


async def test_a_field_that_occurs_twice_is_refused(client: httpx.AsyncClient) -> None:
    assert_refused(await post(client, "/encoder/image", ("file", IMAGE, "a"), ("file", IMAGE, "b")), "2 times")


async def test_unknown_fields_are_ignored(client: httpx.AsyncClient) -> None:
    fields: list[Field] = [("other", b"x" * 100_000, "x.bin"), ("file", IMAGE, "a.jpg"), ("more", "text", None)]
    assert (await post(client, "/detector/image", *fields)).status_code == 200


async def test_the_field_key_must_be_text(client: httpx.AsyncClient) -> None:
    fields: list[Field] = [("key", b"\xff\xfe", None), ("files", IMAGE, "a.jpg")]
    assert_refused(await post(client, "/encoder/images", *fields), "`key`", "UTF-8")


async def test_an_image_above_the_size_limit_is_refused(client: httpx.AsyncClient, settings: Settings) -> None:
    data = IMAGE + b"\0" * settings.maximum_image_bytes
    assert_refused(await post(client, "/encoder/image", ("file", data, "a.jpg")), str(settings.maximum_image_bytes))


async def test_too_many_fields_are_refused(client: httpx.AsyncClient) -> None:
    fields: list[Field] = [("files", b"x", "a.jpg")] * 1001
    assert_refused(await post(client, "/encoder/images", *fields), "1000 parts")


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data", ""])
async def test_a_body_of_another_type_is_refused(client: httpx.AsyncClient, kind: str) -> None:
    assert_refused(await client.post("/encoder/image", content=b"{}", headers={"content-type": kind}))


async def test_a_form_that_ends_early_is_refused(client: httpx.AsyncClient) -> None:
    body, headers = form_data([("file", IMAGE, "a.jpg")])
    assert_refused(await client.post("/encoder/image", content=body[:-20], headers=headers), "form ends")


async def test_a_wrong_query_is_refused(client: httpx.AsyncClient) -> None:
    answer = await post(client, "/detector/image?return_img_b64=perhaps", ("file", IMAGE, "a.jpg"))
    assert_refused(answer, "return_img_b64")


async def test_another_method_is_not_allowed(client: httpx.AsyncClient) -> None:
    answer = await client.get("/detector/image")
    assert (answer.status_code, list(answer.json()), answer.headers["allow"]) == (405, ["error"], "POST")


async def test_the_answer_about_an_unexpected_error_does_not_show_its_message() -> None:
    answer = await answer_error(Request({"type": "http"}), RuntimeError("a secret"))
    assert (answer.status_code, b"secret" in answer.body, b'"error"' in answer.body) == (500, False, True)


async def test_a_quota_says_when_to_come_back() -> None:
    answer = await answer_error(Request({"type": "http"}), QuotaExceeded("full", retry_after_seconds=7))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


async def test_a_form_of_endless_parts_that_nobody_reads_is_refused_early(client: httpx.AsyncClient) -> None:
    """Each part costs processor time of the event loop, also a part with an unknown name."""
    taken: list[int] = []
    parts = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n' * 100

    async def body() -> AsyncIterator[bytes]:
        while True:
            taken.append(100)
            yield parts

    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert_refused(await client.post("/encoder/image", content=body(), headers=headers), "1000 parts")
    assert sum(taken) <= 1200
