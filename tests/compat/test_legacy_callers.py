"""Every endpoint of the legacy recognizer, driven the way gnosis_main_service drives it.

It sends forms as the npm package form-data writes them, takes one image to `/encoder/image` and several to
`/encoder/images`, stores `embedding.toString()` and uploads that later as a dataset.
"""

import base64
import io
import json
import uuid
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from service.encoder.fake_pictures import draw_nobody, draw_people
from tests.support.server import open_client

Field = tuple[str, str | bytes, str | None]
"""Name, content, file name."""


def form_data(fields: Sequence[Field]) -> tuple[bytes, dict[str, str]]:
    """A body and its headers as form-data 4 writes them: 24 dashes and digits, a type guessed from the file name."""
    boundary = "--------------------------" + str(uuid.uuid4().int)[:24]
    body = io.BytesIO()
    for name, content, file_name in fields:
        body.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode())
        if file_name is not None:
            kind = "application/json" if file_name.endswith(".json") else "image/jpeg"
            body.write(f'; filename="{file_name}"\r\nContent-Type: {kind}'.encode())
        body.write(b"\r\n\r\n" + (content if isinstance(content, bytes) else content.encode()) + b"\r\n")
    body.write(f"--{boundary}--\r\n".encode())
    return body.getvalue(), {"content-type": f"multipart/form-data; boundary={boundary}"}


async def post(client: httpx.AsyncClient, path: str, *fields: Field, **headers: str) -> httpx.Response:
    body, own = form_data(fields)
    return await client.post(path, content=body, headers=own | headers)


def to_string(embedding: list[float]) -> str:
    """Like `embedding.toString()`: JavaScript prints the shortest digits, and 1e-7 where Python prints 1e-07."""
    return ",".join(repr(number).replace("e-0", "e-") for number in embedding)


async def group_dataset(client: httpx.AsyncClient, people: dict[str, int]) -> bytes:
    """The dataset that the caller builds for a group: the encoded images of each profile, one row for each image."""
    rows = []
    for name, count in people.items():
        images = [draw_people([name], variation=number + 1) for number in range(count)]
        if count == 1:
            answer = await post(client, "/encoder/image", ("file", images[0], "1.jpg"))
            coded: dict[str, Any] = {name: [{"image": 0, "embedding": answer.json()}]}
        else:
            files: list[Field] = [("files", image, f"{number}.jpg") for number, image in enumerate(images)]
            coded = (await post(client, "/encoder/images", *files, ("key", name, None))).json()
        rows += [[name, to_string(entry["embedding"])] for entry in coded[name]]
    return json.dumps(rows).encode()


async def test_one_image_gives_a_bare_list_of_numbers(gnosis: httpx.AsyncClient) -> None:
    answer = await post(gnosis, "/encoder/image", ("file", draw_people(["ada"]), "ada.jpg"))
    assert answer.status_code == 200
    assert len(answer.json()) == 512
    assert all(isinstance(number, float) for number in answer.json())


async def test_the_encoder_answers_null_for_an_image_without_a_face(gnosis: httpx.AsyncClient) -> None:
    answer = await post(gnosis, "/encoder/image", ("file", draw_nobody(), "nobody.jpg"))
    assert (answer.status_code, answer.json()) == (200, None)


async def test_the_largest_face_is_encoded(gnosis: httpx.AsyncClient) -> None:
    alone = await post(gnosis, "/encoder/image", ("file", draw_people(["ada"]), "ada.jpg"))
    small = np.asarray(Image.open(io.BytesIO(draw_people(["bob"], (160, 160), format="PNG"))))
    large = np.asarray(Image.open(io.BytesIO(draw_people(["ada"], (400, 400), format="PNG"))))
    both = np.full((400, 560, 3), small[0, 0], dtype=np.uint8)
    both[:160, :160], both[:, 160:] = small, large
    file = io.BytesIO()
    Image.fromarray(both).save(file, "PNG")
    answer = await post(gnosis, "/encoder/image", ("file", file.getvalue(), "both.png"))
    assert np.corrcoef(alone.json(), answer.json())[0, 1] > 0.9


async def test_several_images_give_embeddings_with_their_index_under_the_key(gnosis: httpx.AsyncClient) -> None:
    files: list[Field] = [
        ("files", draw_people(["ada"], variation=1), "1.jpg"),
        ("files", draw_nobody(), "2.jpg"),
        ("files", b"not an image", "3.jpg"),
        ("files", draw_people(["ada"], variation=2), "4.jpg"),
    ]
    answer = await post(gnosis, "/encoder/images", *files, ("key", "Ada Lovelace", None))
    assert answer.status_code == 200
    assert list(answer.json()) == ["Ada Lovelace"]
    assert [entry["img"] for entry in answer.json()["Ada Lovelace"]] == [0, 3]
    assert {len(entry["embedding"]) for entry in answer.json()["Ada Lovelace"]} == {512}


async def test_detected_faces_have_their_index_as_label(gnosis: httpx.AsyncClient) -> None:
    answer = await post(gnosis, "/detector/image", ("file", draw_people(["ada", "bob"]), "both.jpg"))
    assert answer.status_code == 200
    faces = answer.json()["faces"]
    assert [face["label"] for face in faces] == [0, 1]
    left, top, right, bottom, score = faces[0]["bbox"]
    assert [left, top, right, bottom] == pytest.approx([32, 32, 224, 224], abs=8)
    assert 0.5 < score <= 1
    assert list(answer.json()) == ["faces"]


async def test_the_detector_answers_an_empty_list_for_an_image_without_a_face(gnosis: httpx.AsyncClient) -> None:
    answer = await post(gnosis, "/detector/image", ("file", draw_nobody(), "nobody.jpg"))
    assert answer.json() == {"faces": []}


async def test_the_annotated_image_is_returned_on_request(gnosis: httpx.AsyncClient) -> None:
    image = draw_people(["ada"])
    answer = await post(gnosis, "/detector/image?return_img_b64=true", ("file", image, "ada.jpg"))
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.json()["img_b64"]))), dtype=int)
    left, top, right, bottom, _ = answer.json()["faces"][0]["bbox"]
    red, green, blue = drawn[int(top) + 40 : int(bottom) - 40, round(left)].mean(axis=0)
    assert green > red + 80
    assert green > blue + 80
    reddish = (drawn[..., 0] > 180) & (drawn[..., 1] < 90) & (drawn[..., 2] < 90)
    assert reddish[int(top) : int(bottom), int(left) : int(right)].sum() > 20


async def test_a_dataset_made_from_answers_recognizes_its_people(gnosis: httpx.AsyncClient) -> None:
    dataset = await group_dataset(gnosis, {"ada": 3, "bob": 1, "cleo": 2})
    image = draw_people(["bob", "stranger", "ada"], variation=7)
    answer = await post(gnosis, "/recognizer/image", ("file", image, "group.jpg"), ("dataset", dataset, "group.json"))
    assert answer.status_code == 200, answer.text
    faces = answer.json()["faces"]
    assert [face["label"] for face in faces] == ["bob", "Uknown", "ada"]
    assert {len(face["bbox"]) for face in faces} == {5}
    assert "img_b64" not in answer.json()


async def test_the_recognizer_draws_labels_too(gnosis: httpx.AsyncClient) -> None:
    dataset = await group_dataset(gnosis, {"ada": 1})
    fields: list[Field] = [("dataset", dataset, "group.json"), ("file", draw_people(["ada"]), "ada.jpg")]
    answer = await post(gnosis, "/recognizer/image?return_img_b64=true", *fields)
    assert [face["label"] for face in answer.json()["faces"]] == ["ada"]
    assert Image.open(io.BytesIO(base64.b64decode(answer.json()["img_b64"]))).format == "JPEG"


@pytest.mark.parametrize("key", ["img", "image"])
async def test_the_answer_of_the_encoder_is_accepted_as_a_dataset(gnosis: httpx.AsyncClient, key: str) -> None:
    files: list[Field] = [("files", draw_people(["ada"], variation=number), f"{number}.jpg") for number in (1, 2)]
    coded = (await post(gnosis, "/encoder/images", *files, ("key", "ada", None))).json()
    renamed = {"ada": [{key: entry["img"], "embedding": entry["embedding"]} for entry in coded["ada"]]}
    fields: list[Field] = [
        ("file", draw_people(["ada"], variation=3), "ada.jpg"),
        ("dataset", json.dumps(renamed).encode(), "d.json"),
    ]
    answer = await post(gnosis, "/recognizer/image", *fields)
    assert [face["label"] for face in answer.json()["faces"]] == ["ada"]


async def test_the_recognizer_answers_an_empty_list_for_an_image_without_a_face(gnosis: httpx.AsyncClient) -> None:
    dataset = await group_dataset(gnosis, {"ada": 1})
    fields: list[Field] = [("file", draw_nobody(), "nobody.jpg"), ("dataset", dataset, "group.json")]
    assert (await post(gnosis, "/recognizer/image", *fields)).json() == {"faces": []}


async def test_the_endpoints_are_documented(open_application: FastAPI) -> None:
    async with open_client(open_application) as client:
        document = (await client.get("/legacy/openapi.json")).json()
        page = await client.get("/legacy/docs")
    paths = ["/detector/image", "/detector/stream", "/encoder/image", "/encoder/images"]
    assert sorted(document["paths"]) == [*paths, "/recognizer/image", "/recognizer/stream"]
    form = document["paths"]["/encoder/images"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["key", "files"]
    assert all(f"<code>{path}</code>" in page.text for path in document["paths"])
