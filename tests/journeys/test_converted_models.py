"""From an MXNet folder to recognized people: convert the detector, serve, enroll, recognize, import a dataset."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.database.connection import Database
from service.encoder.images.decode import ImageLimits, decode_image
from service.encoder.opening import load_encoder
from service.settings import Settings
from tests.support.data import data_path
from tests.support.server import PROGRAM, open_client

STRANGERS = ("kit_harington", "lin_manuel_miranda")
LIMITS = ImageLimits(bytes=20 * 2**20, pixels=40_000_000)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published mnet025, converted by the command, beside the MobileFaceNet of an InsightFace pack."""
    folder = tmp_path_factory.mktemp("pair")
    models = data_path("legacy-models", "retinaface_mnet025")
    subprocess.run([*PROGRAM, "models", "convert", models, "--out", folder], check=True, capture_output=True)
    shutil.copy(data_path("models", "scrfd2.5g-mobilefacenet128", "mobilefacenet.onnx"), folder)
    return folder


@pytest.fixture
async def legacy_client(
    settings: Settings, database: Database, client: httpx.AsyncClient, pair: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose encoders are the two of the converted pair."""
    spelled = f"legacy:{pair},legacy-padded-crop:{pair}"
    app = create_app(settings.model_copy(update={"encoder": spelled.split(",")}))
    async with app.router.lifespan_context(app), open_client(app, client.headers["X-API-Key"]) as opened:
        yield opened


def photographs() -> dict[str, list[bytes]]:
    """Person -> photographs."""
    people = sorted(data_path("faces", "people").iterdir())
    return {person.name: [path.read_bytes() for path in sorted(person.iterdir())] for person in people}


def cast() -> dict[str, list[bytes]]:
    """The people of the gallery; the others stay strangers."""
    return {name: pictures for name, pictures in photographs().items() if name not in STRANGERS}


async def recognized(client: httpx.AsyncClient, gallery: str, photograph: bytes) -> list[str | None]:
    """Return the name that each face is recognized as, left to right."""
    answer = await client.post(f"/v1/galleries/{gallery}/recognize", files={"image": photograph})
    assert answer.status_code == 200, answer.text
    faces = sorted(answer.json()["faces"], key=lambda face: face["box"]["left"])
    return [face["match"] and face["match"]["person"]["name"] for face in faces]


async def finished(client: httpx.AsyncClient, job: str) -> dict[str, Any]:
    """Return the job when it has ended."""
    for _ in range(600):
        found: dict[str, Any] = (await client.get(f"/v1/jobs/{job}")).json()
        if found["status"] in {"succeeded", "failed"}:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"job {job} takes more than a minute")


async def test_people_enrolled_with_a_converted_detector_are_recognized_and_strangers_are_not(
    legacy_client: httpx.AsyncClient,
) -> None:
    await legacy_client.post("/v1/galleries", json={"name": "cast"})
    for name, (first, *_) in cast().items():
        made = await legacy_client.post("/v1/galleries/cast/people", json={"name": name})
        place = f"/v1/galleries/cast/people/{made.json()['id']}/faces"
        enrolled = await legacy_client.post(place, files={"image": first})
        assert (len(enrolled.json()["faces"]), enrolled.json()["rejected"]) == (1, [])
    for name, (_, *probes) in cast().items():
        for probe in probes:
            assert await recognized(legacy_client, "cast", probe) == [name]
    for stranger in STRANGERS:
        for probe in photographs()[stranger]:
            assert await recognized(legacy_client, "cast", probe) == [None]
    group = data_path("faces", "groups", "two_people.jpg").read_bytes()
    assert await recognized(legacy_client, "cast", group) == ["barack_obama", "joe_biden"]


async def test_a_dataset_of_the_legacy_recognizer_goes_on_being_useful(
    legacy_client: httpx.AsyncClient, pair: Path
) -> None:
    """Its rows are embeddings of padded crops; new images are cropped the same way, and the other space is refused."""
    encoder = load_encoder(f"legacy-padded-crop:{pair}", Settings(_env_file=None))
    rows = []
    for name, (first, *_) in cast().items():
        image = decode_image(first, LIMITS)
        embedding = encoder.embed(encoder.align(image, encoder.detect(image)[:1]))[0]
        rows.append([name, ",".join(str(float(number)) for number in embedding)])
    space = encoder.space.name
    made = await legacy_client.post("/v1/galleries", json={"name": "old", "embedding_space": space})
    assert made.json()["threshold"] == 0.3
    started = await legacy_client.post("/v1/galleries/old/import", content=json.dumps(rows))
    job = await finished(legacy_client, started.json()["job"])
    assert (job["status"], job["result"]["faces"]) == ("succeeded", len(rows))
    for name, (first, *_) in cast().items():
        assert await recognized(legacy_client, "old", first) == [name]
