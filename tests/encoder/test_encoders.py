"""The interface of the room: kinds of encoders by name, spaces by name and digest, and images to faces."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.fake_pictures import draw_nobody, draw_people
from service.encoder.kinds import ENCODER_KINDS, EncoderKind, parse_encoder_name
from service.encoder.opening import load_encoder, open_encoders
from service.errors import (
    EmbeddingSpaceMismatch,
    EncoderUnavailable,
    ImageTooLarge,
    InvalidSettings,
    UnsupportedImageFormat,
)
from service.settings import Settings
from tests.support.encoders import LIMITS, cosine

PROJECT = Path(__file__).resolve().parents[2]


def settings(encoder: str, **others: Any) -> Settings:
    return Settings(_env_file=None, encoder=encoder, **others)


@pytest.fixture
async def encoders() -> AsyncIterator[Encoders]:
    """Encoders with the fake encoder alone, which embed at most three faces of an image."""
    opened = Encoders([FakeEncoder()], LIMITS, 3)
    yield opened
    opened.close()


async def test_an_image_is_encoded_to_faces_and_embeddings(encoders: Encoders) -> None:
    data = draw_people(["Ada", "Grace"])
    faces = await encoders.encode(encoders.default, data)
    assert len(faces) == 2
    assert all(face.embedding.shape == (512,) for face in faces)
    again = await encoders.encode(encoders.default, await encoders.decode(data))
    assert [face.face for face in again] == [face.face for face in faces]
    assert await encoders.detect(encoders.default, data) == [face.face for face in faces]


async def test_an_image_without_a_face_is_encoded_to_an_empty_list(encoders: Encoders) -> None:
    assert await encoders.encode(encoders.default, draw_nobody()) == []


async def test_only_as_many_faces_are_encoded_as_the_limit_allows(encoders: Encoders) -> None:
    data = draw_people(["a", "b", "c", "d", "e"])
    assert len(await encoders.detect(encoders.default, data)) == 5
    assert len(await encoders.encode(encoders.default, data)) == 3
    assert len(await encoders.encode(encoders.default, data, maximum_faces=1)) == 1


async def test_an_unsupported_file_raises_its_error_in_the_caller(encoders: Encoders) -> None:
    with pytest.raises(UnsupportedImageFormat):
        await encoders.encode(encoders.default, b"text")
    with pytest.raises(UnsupportedImageFormat):
        await encoders.decode(b"text")


async def test_an_image_above_the_pixel_limit_of_the_settings_is_refused() -> None:
    opened = open_encoders(settings("fake", maximum_image_pixels=1000))
    with pytest.raises(ImageTooLarge):
        await opened.detect(opened.default, draw_people(["Ada"]))
    opened.close()


async def test_each_of_many_concurrent_images_gets_its_own_faces(encoders: Encoders) -> None:
    names = [f"person {number}" for number in range(20)]
    alone = [await encoders.encode(encoders.default, draw_people([name])) for name in names]
    together = await asyncio.gather(*(encoders.encode(encoders.default, draw_people([name])) for name in names))
    for one, other in zip(alone, together, strict=True):
        assert cosine(one[0].embedding, other[0].embedding) > 0.9999


async def test_an_unknown_space_is_refused_by_an_error_that_names_it_and_the_loaded_spaces(encoders: Encoders) -> None:
    with pytest.raises(EncoderUnavailable, match=r"dlib.*loaded are: fake"):
        encoders.space("dlib")
    other = replace(encoders.default, name="dlib", digest="d" * 64)
    with pytest.raises(EncoderUnavailable, match=r"dlib \(digest dddddddddddd\).*fake"):
        await encoders.encode(other, draw_nobody())


async def test_a_space_of_the_same_name_and_another_digest_is_a_mismatch(encoders: Encoders) -> None:
    old = replace(encoders.default, digest="d" * 64)
    with pytest.raises(EmbeddingSpaceMismatch, match=rf"dddddddddddd.*{encoders.default.digest[:12]}"):
        await encoders.encode(old, draw_nobody())


async def test_a_space_is_found_by_its_digest_under_another_name(encoders: Encoders) -> None:
    renamed = replace(encoders.default, name="insightface:elsewhere")
    assert await encoders.encode(renamed, draw_nobody()) == []


async def test_the_event_loop_runs_while_models_work(made_pack: Path) -> None:
    opened = open_encoders(settings(f"dlib,insightface:{made_pack}"))
    image = np.random.default_rng(1).integers(0, 255, (1200, 1600, 3), dtype=np.uint8)
    opened.load()
    work = asyncio.gather(*(opened.encode(space, image) for space in opened.spaces for _ in range(3)))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.002)
        turns += 1
    assert turns > 12  # six images: an event loop that models block gets a turn or two for each image
    opened.close()


def test_encoders_have_the_order_of_the_setting(made_pack: Path) -> None:
    opened = open_encoders(settings(f" insightface:{made_pack}, fake ,dlib"))
    assert [space.name for space in opened.spaces] == [f"insightface:{made_pack}", "fake", "dlib"]
    assert opened.default == opened.spaces[0]
    assert opened.space("dlib") == opened.spaces[2]
    assert len({space.digest for space in opened.spaces}) == 3
    opened.close()


def test_an_encoder_is_found_by_another_spelling_of_its_folder(made_pack: Path) -> None:
    opened = open_encoders(settings(f"insightface:{made_pack}"))
    other_spelling = f"insightface:{made_pack.parent}/../{made_pack.parent.name}/{made_pack.name}/"
    assert opened.space(other_spelling) == opened.default
    opened.close()


@pytest.mark.parametrize("encoder", ["resnet", "dlib,", "dlib,unknown", "insightface", "insightface:", ",", "fake,"])
def test_a_wrong_value_of_encoder_is_refused_when_encoders_open(encoder: str) -> None:
    if encoder in {"dlib,", "fake,"}:
        open_encoders(settings(encoder)).close()  # a trailing comma names no encoder
        return
    with pytest.raises(InvalidSettings, match="ENCODER"):
        open_encoders(settings(encoder))


def test_dlib_is_the_encoder_without_a_setting() -> None:
    opened = open_encoders(Settings(_env_file=None))
    assert [space.name for space in opened.spaces] == ["dlib"]
    opened.close()


def test_the_setting_and_the_documentation_name_every_kind_of_encoder() -> None:
    description = Settings.model_fields["encoder"].description or ""
    assert description.rpartition(": ")[2] == " | ".join(kind.usage for kind in ENCODER_KINDS) + "."
    page = (PROJECT / "docs" / "encoders.md").read_text()
    assert [kind.usage for kind in ENCODER_KINDS if f"`{kind.usage}`" not in page] == []
    kind, _ = parse_encoder_name(Settings(_env_file=None).encoder[0])
    assert f"| `{kind.usage}` (default) |" in page


@pytest.mark.parametrize("kind", ENCODER_KINDS)
def test_every_kind_of_encoder_opens_or_refuses_a_folder_that_does_not_exist(kind: EncoderKind, tmp_path: Path) -> None:
    isolated = settings("dlib", data_dir=tmp_path)
    if not kind.argument:
        assert load_encoder(kind.name, isolated).space.name == kind.name
        return
    with pytest.raises(InvalidSettings, match=r"'absent'.* searched"):
        load_encoder(f"{kind.name}:absent", isolated)
    with pytest.raises(InvalidSettings, match=f"'{kind.name}:' needs {kind.argument} after the colon"):
        load_encoder(f"{kind.name}:", isolated)


def test_an_unknown_encoder_is_refused_with_the_list_of_all_kinds() -> None:
    with pytest.raises(InvalidSettings) as refused:
        load_encoder("resnet", settings("dlib"))
    assert all(kind.usage in refused.value.detail for kind in ENCODER_KINDS)


def test_one_encoder_can_be_loaded_that_the_setting_does_not_name() -> None:
    assert load_encoder("fake", settings("dlib")).space.name == "fake"
