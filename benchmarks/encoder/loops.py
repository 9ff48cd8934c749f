"""The same pictures through the same networks without a server: bare, InsightFace's own way, one face at a time."""

import asyncio
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from service.encoder.encoders import Encoders
from service.encoder.images import ImageLimits, decode_image
from service.encoder.insightface_encoder import InsightfaceEncoder
from service.encoder.packs import read_pack

_LIMITS = ImageLimits(bytes=64 * 2**20, pixels=100_000_000)


def bare_loop(pack: Path, pictures: list[bytes], seconds: float, threads: int) -> float:
    """Images a second of decode, detect, align and one batch of embeddings, picture after picture."""
    encoder = _encoder(pack)

    def one(data: bytes) -> None:
        image = decode_image(data, _LIMITS)
        faces = encoder.detect(image)
        if faces:
            encoder.embed(encoder.align(image, faces))

    return _rate(one, pictures, seconds, threads)


def one_face_at_a_time(pack: Path, pictures: list[bytes], seconds: float) -> float:
    """The same, but each face by itself, as the legacy recognizer did."""
    encoder = _encoder(pack)

    def one(data: bytes) -> None:
        image = decode_image(data, _LIMITS)
        for face in encoder.detect(image):
            encoder.embed(encoder.align(image, [face]))

    return _rate(one, pictures, seconds, 1)


def stage_seconds(pack: Path, pictures: list[bytes]) -> dict[str, float]:
    """Seconds that each stage of the service's own pipeline keeps threads for, a picture, one after the other."""
    encoders = Encoders([_encoder(pack)], _LIMITS, maximum_faces=200)

    async def encode_all() -> None:
        for data in pictures:
            await encoders.encode(encoders.default, data)

    asyncio.run(encode_all())
    total = encoders.stages()
    encoders.close()
    stages = ("decode", "detect", "align", "embed")
    return {stage: round(getattr(total, stage) / total.pictures, 5) for stage in stages}


def face_analysis(pack: Path, pictures: list[bytes], seconds: float) -> float:
    """InsightFace's FaceAnalysis in a loop, at its usual detection size."""
    from insightface.app import FaceAnalysis

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(pack, Path(root) / "models" / "pack")
        analysis = FaceAnalysis(name="pack", root=root, providers=["CPUExecutionProvider"])
        analysis.prepare(ctx_id=-1, det_size=(640, 640))
        return _rate(
            lambda data: analysis.get(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)),
            pictures,
            seconds,
            1,
        )


def _encoder(pack: Path) -> InsightfaceEncoder:
    encoder = InsightfaceEncoder("insightface:pack", read_pack(pack))
    encoder.load()
    return encoder


def _rate(work: Callable[[bytes], object], pictures: list[bytes], seconds: float, threads: int) -> float:
    for data in pictures:
        work(data)
    began = time.perf_counter()

    def until_over(first: int) -> int:
        done = first
        while time.perf_counter() - began < seconds:
            work(pictures[done % len(pictures)])
            done += 1
        return done - first

    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(until_over, range(threads)))
    return done / (time.perf_counter() - began)


def processors() -> int:
    """Processors of this machine."""
    return os.cpu_count() or 1
