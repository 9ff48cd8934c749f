"""The embedding space of the legacy endpoints against a second implementation of the legacy steps.

Enrollment: the largest face of the image at a quarter of its width, cut out on a black square. Recognition: full size.
"""

from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.encoder.contract import Encoder, Image
from service.encoder.images.decode import ImageLimits, decode_image
from service.encoder.opening import load_encoder, open_encoders
from service.identity.legacy_recognition import encode_portrait
from service.settings import Settings
from tests.compat.test_legacy_callers import Field, post, to_string
from tests.encoder.networks.test_padded_crop import legacy_crop, resized_by_area
from tests.support.legacy_models import LegacyPair
from tests.support.server import open_client

LIMITS = ImageLimits(10**8, 10**8)


@pytest.fixture
def legacy_name(legacy_pair: LegacyPair) -> str:
    return f"legacy-padded-crop:{legacy_pair.folder}"


@pytest.fixture
def encoder(legacy_name: str) -> Iterator[Encoder]:
    """The networks, to be called step by step."""
    opened = load_encoder(legacy_name, Settings(_env_file=None))
    yield opened
    opened.close()


def by_hand(encoder: Encoder, image: Image) -> np.ndarray:
    """Return the embedding of the largest detected face of this image, cropped by the second implementation."""
    box = encoder.detect(image)[0].box
    crop = legacy_crop(image, (box.left, box.top, box.right, box.bottom))
    return encoder.embed([np.rint(crop).astype(np.uint8)])[0]


def quarter(image: Image) -> Image:
    """Scale to a quarter of the width, by area."""
    width = int(image.shape[1] / 4)
    quartered = resized_by_area(image, int(image.shape[0] * (width / image.shape[1])), width)
    return np.asarray(np.rint(quartered), dtype=np.uint8)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


async def test_a_portrait_is_encoded_from_the_image_at_a_quarter_of_its_width(
    legacy_pair: LegacyPair, legacy_name: str, encoder: Encoder
) -> None:
    data = legacy_pair.photographs[legacy_pair.people_of_group[0]][0]
    image = decode_image(data, LIMITS)
    encoders = open_encoders(Settings(_env_file=None, encoder=legacy_name))
    embedding = await encode_portrait(encoders, encoders.default, data)
    encoders.close()
    assert embedding is not None
    expected = by_hand(encoder, quarter(image))
    assert cosine(embedding, expected) > 0.999
    assert np.linalg.norm(embedding) == pytest.approx(np.linalg.norm(expected), rel=0.01)
    assert cosine(embedding, by_hand(encoder, image)) < 0.99  # at full size it is another embedding


async def test_old_datasets_recognize_new_images(
    settings: Settings, client: httpx.AsyncClient, legacy_pair: LegacyPair, legacy_name: str, encoder: Encoder
) -> None:
    """A dataset made by hand, the old way, is searched with probes that the service makes."""
    people = {name: legacy_pair.photographs[name] for name in legacy_pair.people_of_group}
    rows = []
    for name, images in people.items():
        for data in images[:2]:
            portrait = quarter(decode_image(data, LIMITS))
            rows.append(f'["{name}", "{to_string(by_hand(encoder, portrait).tolist())}"]')
    app = create_app(settings.model_copy(update={"legacy_encoder": legacy_name, "worker_in_server": False}))
    async with app.router.lifespan_context(app), open_client(app, client.headers["x-api-key"]) as caller:
        for name, images in people.items():
            fields: list[Field] = [("file", images[0], "1.jpg"), ("dataset", f"[{','.join(rows)}]", "d.json")]
            answer = await post(caller, "/recognizer/image", *fields)
            assert [face["label"] for face in answer.json()["faces"]] == [name]
