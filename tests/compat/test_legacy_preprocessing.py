"""The legacy endpoints' embedding space against the legacy steps written a second time, with real networks.

Enrollment: the picture at a quarter of its width, its largest face, cut out on a black square. Recognition: full size.
"""

import shutil
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.encoder.contract import Encoder, Image
from service.encoder.images.decode import ImageLimits, decode_image
from service.encoder.opening import load_encoder, open_encoders
from service.identity.legacy_recognition import encode_portrait
from service.models.mxnet.conversion import convert_folder
from service.settings import Settings
from tests.compat.test_legacy_callers import Field, post, to_string
from tests.encoder.networks.test_padded_crop import legacy_crop, resized_by_area
from tests.support.data import data_path
from tests.support.server import open_client

PHOTOGRAPH = ("faces", "people", "barack_obama", "1.jpg")


@pytest.fixture(scope="module")
def legacy_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The published mnet025, converted, beside the MobileFaceNet of an InsightFace pack."""
    folder = tmp_path_factory.mktemp("legacy")
    convert_folder(data_path("legacy-models", "retinaface_mnet025"), folder)
    shutil.copy(data_path("models", "scrfd2.5g-mobilefacenet128", "mobilefacenet.onnx"), folder)
    return f"legacy-padded-crop:{folder}"


@pytest.fixture(scope="module")
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


async def test_a_portrait_is_encoded_from_a_quarter_of_the_picture(legacy_name: str, encoder: Encoder) -> None:
    data = data_path(*PHOTOGRAPH).read_bytes()
    picture = decode_image(data, ImageLimits(10**8, 10**8))
    encoders = open_encoders(Settings(_env_file=None, encoder=legacy_name))
    embedding = await encode_portrait(encoders, encoders.default, data)
    encoders.close()
    assert embedding is not None
    expected = by_hand(encoder, quarter(picture))
    assert cosine(embedding, expected) > 0.999
    assert np.linalg.norm(embedding) == pytest.approx(np.linalg.norm(expected), rel=0.01)
    assert cosine(embedding, by_hand(encoder, picture)) < 0.99  # at full size it is another embedding


async def test_old_datasets_recognize_new_pictures(
    settings: Settings, client: httpx.AsyncClient, legacy_name: str, encoder: Encoder
) -> None:
    """A dataset made by hand, the old way, is searched with probes that the service makes."""
    rows = []
    for person in ("barack_obama", "joe_biden"):
        for photograph in sorted(data_path("faces", "people", person).iterdir())[:2]:
            portrait = quarter(decode_image(photograph.read_bytes(), ImageLimits(10**8, 10**8)))
            rows.append(f'["{person}", "{to_string(by_hand(encoder, portrait).tolist())}"]')
    app = create_app(settings.model_copy(update={"legacy_encoder": legacy_name, "worker_in_server": False}))
    async with app.router.lifespan_context(app), open_client(app, client.headers["x-api-key"]) as caller:
        for person in ("barack_obama", "joe_biden"):
            picture = data_path("faces", "people", person, "1.jpg").read_bytes()
            fields: list[Field] = [("file", picture, "1.jpg"), ("dataset", f"[{','.join(rows)}]", "d.json")]
            answer = await post(caller, "/recognizer/image", *fields)
            assert answer.json()["faces"][0]["label"] == person
