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
from tests.support.legacy_models import RECOGNIZER, LegacyPair
from tests.support.server import PROGRAM, open_client

LIMITS = ImageLimits(bytes=20 * 2**20, pixels=40_000_000)


@pytest.fixture
def folder(legacy_pair: LegacyPair, tmp_path: Path) -> Path:
    """The detector, converted by the command, beside the recognition model."""
    folder = tmp_path / "pair"
    subprocess.run([*PROGRAM, "models", "convert", legacy_pair.mxnet, "--out", folder], check=True, capture_output=True)
    shutil.copy(legacy_pair.folder / RECOGNIZER, folder)
    return folder


@pytest.fixture
async def legacy_client(
    settings: Settings, database: Database, client: httpx.AsyncClient, folder: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose encoders are the two of the converted pair."""
    encoders = [f"legacy:{folder}", f"legacy-padded-crop:{folder}"]
    app = create_app(settings.model_copy(update={"encoder": encoders}))
    async with app.router.lifespan_context(app), open_client(app, client.headers["X-API-Key"]) as opened:
        yield opened


async def recognized(client: httpx.AsyncClient, gallery: str, photograph: bytes) -> list[str | None]:
    """Return the name that each face is recognized as, left to right."""
    answer = await client.post(f"/v1/galleries/{gallery}/recognize", files={"image": photograph})
    assert answer.status_code == 200, answer.text
    faces = sorted(answer.json()["faces"], key=lambda face: face["box"]["left"])
    return [face["match"] and face["match"]["person"]["name"] for face in faces]


async def finished(client: httpx.AsyncClient, job: str) -> dict[str, Any]:
    """Return the job when it has ended."""
    while True:
        answer: dict[str, Any] = (await client.get(f"/v1/jobs/{job}")).json()
        if answer["status"] in {"succeeded", "failed"}:
            return answer
        await asyncio.sleep(0.1)


async def test_people_enrolled_with_a_converted_detector_are_recognized_and_strangers_are_not(
    legacy_client: httpx.AsyncClient, legacy_pair: LegacyPair
) -> None:
    await legacy_client.post("/v1/galleries", json={"name": "cast"})
    for name, (first, *_) in legacy_pair.enrolled.items():
        made = await legacy_client.post("/v1/galleries/cast/people", json={"name": name})
        path = f"/v1/galleries/cast/people/{made.json()['id']}/faces"
        enrolled = await legacy_client.post(path, files={"image": first})
        assert (len(enrolled.json()["faces"]), enrolled.json()["rejected"]) == (1, [])
    for name, (_, *probes) in legacy_pair.enrolled.items():
        for probe in probes:
            assert await recognized(legacy_client, "cast", probe) == [name]
    for stranger in legacy_pair.strangers:
        for probe in legacy_pair.photographs[stranger]:
            assert await recognized(legacy_client, "cast", probe) == [None]
    assert await recognized(legacy_client, "cast", legacy_pair.group) == list(legacy_pair.people_of_group)


async def test_a_dataset_of_the_legacy_recognizer_recognizes_new_images(
    legacy_client: httpx.AsyncClient, legacy_pair: LegacyPair, folder: Path
) -> None:
    """Its rows are embeddings of padded crops. New images are cropped in the same way."""
    encoder = load_encoder(f"legacy-padded-crop:{folder}", Settings(_env_file=None))
    rows = []
    for name, (first, *_) in legacy_pair.enrolled.items():
        image = decode_image(first, LIMITS)
        embedding = encoder.embed(encoder.align(image, encoder.detect(image)[:1]))[0]
        rows.append([name, ",".join(str(float(number)) for number in embedding)])
    space = encoder.space.name
    encoder.close()
    made = await legacy_client.post("/v1/galleries", json={"name": "old", "embedding_space": space})
    assert made.json()["threshold"] == 0.3
    started = await legacy_client.post("/v1/galleries/old/import", content=json.dumps(rows))
    job = await finished(legacy_client, started.json()["job"])
    assert (job["status"], job["result"]["faces"]) == ("succeeded", len(rows))
    for name, (first, *_) in legacy_pair.enrolled.items():
        assert await recognized(legacy_client, "old", first) == [name]
