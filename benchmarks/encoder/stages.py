"""Processor seconds of a recognized image, by stage.

From decoding to recognition: the service's own pipeline with one thread, by its own clock. HTTP and search: processor
time of the server's event loop and of PostgreSQL while it answers. `/v1/detect` has the same upload and the same key
but reads no gallery, so the difference to recognize is the search, with the lookups of the gallery.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from benchmarks.encoder.client import drive, picture_requests
from benchmarks.encoder.loops import LIMITS, open_encoder
from benchmarks.encoder.served import GALLERY, Served
from service.encoder.encoders import Encoders

PASSES = 6
CLIENTS = 4


def stage_seconds(service: Served, pack: Path, pictures: Sequence[bytes]) -> dict[str, float]:
    """Return the seconds for each image by stage, in the order of the stages."""
    http, all_around = (
        _around_models(service, pictures, path) for path in ("/v1/detect", f"/v1/galleries/{GALLERY}/recognize")
    )
    networks = _networks(pack, pictures)
    return {"HTTP and key": http} | networks | {"search": all_around - http}


def _networks(pack: Path, pictures: Sequence[bytes]) -> dict[str, float]:
    encoders = Encoders([open_encoder(pack)], LIMITS, maximum_faces=200, threads=1)

    async def encode_all() -> None:
        for data in list(pictures) * PASSES:
            await encoders.encode(encoders.default, data)

    asyncio.run(encode_all())
    total = encoders.stages()
    encoders.close()
    names = {"decode": "decode", "detect": "detect", "align": "align", "embed": "recognize"}
    return {name: getattr(total, stage) / total.images for stage, name in names.items()}


def _around_models(service: Served, pictures: Sequence[bytes], path: str) -> float:
    """Processor seconds of a request, without the threads of the models."""
    requests = picture_requests(service.server.url, service.key, path, pictures)
    most = PASSES * len(requests)
    before = service.loop_seconds() + service.database_seconds()
    answers = drive(service.server.url, requests, CLIENTS, lambda turn: turn < most)
    assert answers.statuses() == {200: most}, answers.statuses()
    return (service.loop_seconds() + service.database_seconds() - before) / most
