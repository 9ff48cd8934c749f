"""Loops without a server over the same images and networks: bare, with FaceAnalysis, and one face at a time.

Each way is a function of one image. The measurement is `passes` times over all images.
"""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from service.encoder.images.decode import ImageLimits, decode_image
from service.encoder.insightface import InsightfaceEncoder
from service.encoder.runtime.sessions import Device
from service.models.packs import read_pack

LIMITS = ImageLimits(bytes=64 * 2**20, pixels=100_000_000)

Work = Callable[[bytes], object]


@dataclass(frozen=True)
class Loop:
    """A way through the networks, and the number of threads that call it."""

    name: str
    work: Work
    threads: int = 1

    def rate(self, pictures: Sequence[bytes], passes: int) -> float:
        """Return images a second over all images, `passes` times."""
        turns, most = count(), passes * len(pictures)

        def until_over(_: int) -> None:
            while (turn := next(turns)) < most:
                self.work(pictures[turn % len(pictures)])

        began = time.perf_counter()
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(until_over, range(self.threads)))
        return most / (time.perf_counter() - began)


def bare_loops(pack: Path) -> list[Loop]:
    """Decode, detect, align and embed in one batch, image by image, with threads inside the networks or around them."""
    cores = processors()
    narrow, wide = open_encoder(pack), open_encoder(pack, cores)
    return [
        Loop("bare loop, 1 thread", _in_one_batch(narrow)),
        Loop("bare loop, networks with a thread a core", _in_one_batch(wide)),
        Loop("bare loop, a thread a core", _in_one_batch(narrow), cores),
    ]


def one_face_at_a_time(pack: Path) -> Loop:
    """Like the first bare loop, but each face is embedded by itself, as the legacy recognizer did."""
    encoder = open_encoder(pack)

    def one(data: bytes) -> None:
        image = decode_image(data, LIMITS)
        for face in encoder.detect(image):
            encoder.embed(encoder.align(image, [face]))

    return Loop("one face at a time, 1 thread", one)


@contextlib.contextmanager
def face_analysis(pack: Path) -> Iterator[list[Loop]]:
    """insightface.app.FaceAnalysis with its defaults, and with this service's networks named and one detection size.

    Its sessions use a thread for each core by default. The pack has no other networks, so `allowed_modules` changes
    nothing.
    """
    with tempfile.TemporaryDirectory() as root:
        shutil.copytree(pack, Path(root) / "models" / "pack")
        yield [
            Loop("FaceAnalysis, its defaults (128 and 640)", _analysis(root)),
            Loop("FaceAnalysis, detection at 640 only", _analysis(root, det_size=(640, 640))),
            Loop("FaceAnalysis, its defaults, a thread a core", _analysis(root), processors()),
        ]


def _analysis(root: str, **prepared: object) -> Work:
    from insightface.app import FaceAnalysis

    logging.disable(logging.WARNING)
    analysis = FaceAnalysis(
        name="pack", root=root, providers=["CPUExecutionProvider"], allowed_modules=["detection", "recognition"]
    )
    analysis.prepare(ctx_id=-1, **prepared)
    return lambda data: analysis.get(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def open_encoder(pack: Path, threads: int = 1) -> InsightfaceEncoder:
    """The service's encoder; its networks use `threads` while nothing else runs."""
    device = Device(threads=threads)
    return InsightfaceEncoder("insightface:pack", read_pack(pack), device, device)


def processors() -> int:
    """The number of processors of this machine."""
    return os.cpu_count() or 1


def _in_one_batch(encoder: InsightfaceEncoder) -> Work:
    def one(data: bytes) -> None:
        image = decode_image(data, LIMITS)
        faces = encoder.detect(image)
        if faces:
            encoder.embed(encoder.align(image, faces))

    return one
