"""LEGACY_ENCODER: one embedding space for all legacy routes and commands, opened beside the spaces of ENCODER."""

from collections.abc import AsyncIterator

import httpx
import pytest

from service.app import create_app
from service.encoder.fake_pictures import draw_people
from service.encoder.opening import open_encoders
from service.errors import EncoderUnavailable, InvalidSettings
from service.identity.legacy_recognition import legacy_space
from service.settings import Settings
from tests.compat.test_legacy_callers import Field, post
from tests.support.server import open_client


@pytest.fixture
async def client_of_both(settings: Settings, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of a server whose own encoder is dlib and whose legacy encoder is the fake."""
    changes = {"encoder": ["dlib"], "legacy_encoder": "fake", "worker_in_server": False}
    app = create_app(settings.model_copy(update=changes))
    async with app.router.lifespan_context(app), open_client(app, client.headers["x-api-key"]) as opened:
        yield opened


def test_the_legacy_encoder_is_opened_beside_the_encoders_of_the_setting(settings: Settings) -> None:
    opened = open_encoders(settings.model_copy(update={"encoder": ["dlib"], "legacy_encoder": "fake"}))
    assert [space.name for space in opened.spaces] == ["dlib", "fake"]
    assert (opened.default.name, legacy_space(opened, "fake").name) == ("dlib", "fake")
    opened.close()


def test_the_first_encoder_is_used_if_no_legacy_encoder_is_set(settings: Settings) -> None:
    opened = open_encoders(settings)
    assert legacy_space(opened, None) == opened.default
    opened.close()


def test_an_unknown_legacy_encoder_is_refused_at_the_start(settings: Settings) -> None:
    with pytest.raises(InvalidSettings, match="nonsense"):
        open_encoders(settings.model_copy(update={"legacy_encoder": "nonsense"}))
    opened = open_encoders(settings.model_copy(update={"legacy_encoder": "nonsense", "legacy_api": "off"}))
    with pytest.raises(EncoderUnavailable):
        legacy_space(opened, "nonsense")
    with pytest.raises(InvalidSettings):
        legacy_space(opened, "external:arcface:512")
    opened.close()


async def test_every_endpoint_uses_the_legacy_encoder(client_of_both: httpx.AsyncClient) -> None:
    image: Field = ("file", draw_people(["ada"]), "a.jpg")
    embedding = (await post(client_of_both, "/encoder/image", image)).json()
    assert len(embedding) == 512
    several = await post(client_of_both, "/encoder/images", ("files", image[1], "a.jpg"), ("key", "ada", None))
    assert several.json()["ada"][0]["embedding"] == embedding
    dataset = f'[["ada", "{",".join(map(str, embedding))}"]]'
    recognized = await post(client_of_both, "/recognizer/image", image, ("dataset", dataset, "d.json"))
    assert [face["label"] for face in recognized.json()["faces"]] == ["ada"]
    assert len((await post(client_of_both, "/detector/image", image)).json()["faces"]) == 1


async def test_a_gallery_is_searched_in_its_own_embedding_space(client_of_both: httpx.AsyncClient) -> None:
    """The gallery knows how its embeddings were made; comparing them with others would be wrong."""
    made = await client_of_both.post("/v1/galleries", json={"name": "staff"})
    assert made.json()["embedding_space"] == "dlib"
    fields: list[Field] = [("file", draw_people(["ada"]), "a.jpg"), ("gallery", "staff", None)]
    answer = await post(client_of_both, "/recognizer/image", *fields)
    assert (answer.status_code, answer.json()) == (200, {"faces": []})  # dlib finds no face in an invented pattern
