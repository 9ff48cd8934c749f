"""Compares the hundredth request with an uploaded dataset of 10,000 faces with the legacy recognizer.

`python -m benchmarks.legacy` prints the table and writes benchmarks/results/legacy.json. The way of the legacy
recognizer is rewritten in tests/support/legacy_recognizer.py: exactly (the matrix copied for every row), and kindly
(without those copies). Embeddings are invented: 2,000 people in 512 dimensions, five references each.
"""

import argparse
import asyncio
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import numpy.typing as npt

from service.access.operator import operator_transaction
from service.access.tenants import UNLIMITED, create_tenant
from service.database.connection import open_database
from service.database.schema.migrate import migrate, schema_state
from service.database.session import tenant_session
from service.embedding import external_space
from service.encoder.fake_pictures import draw_people
from service.gallery.votes import count_votes
from service.identity.legacy_vote import VOTING_COSINE, decide_by_votes
from service.identity.uploaded_datasets import ArrivingDataset, UploadedDataset, gallery_of_dataset
from service.settings import Settings
from tests.support import legacy_recognizer

PEOPLE, REFERENCES, DIMENSION = 2_000, 5, 512
REQUESTS = 100
PIECE_BYTES = 64 * 1024
RESULTS = Path(__file__).parent / "results" / "legacy.json"
PORT = 18_765
BOUNDARY = "a-form-of-two-files"
Matrix = npt.NDArray[np.float32]
T = TypeVar("T")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE, help="with five references each")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--without-http", action="store_true", help="only parse and match")
    given = parser.parse_args()
    labels, references, probes = invent(given.people)
    content = legacy_recognizer.write(labels, references)
    measured: dict[str, Any] = {"faces": len(labels), "megabytes": len(content) / 1e6, "requests": given.requests}
    measured |= legacy_way(content, probes)
    with tempfile.TemporaryDirectory(prefix="legacy-bench-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user
        measured |= asyncio.run(our_way(Path(folder), content, probes, given.requests))
        if not given.without_http:
            measured |= over_http(Path(folder), content, given.requests)
    measured |= ratios(measured)
    measured["machine"] = f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(measured, indent=1) + "\n")
    for name, value in measured.items():
        print(f"{name:48} {value:.4g}" if isinstance(value, float) else f"{name:48} {value}")


def invent(people: int) -> tuple[list[str], Matrix, Matrix]:
    """Return labels and references in the dataset's order, and one probe for each of a hundred people."""
    random = np.random.default_rng(1)
    centers = random.standard_normal((people, DIMENSION))
    spread = 0.7 * random.standard_normal((people, REFERENCES, DIMENSION))
    references = (centers[:, None] + spread).reshape(-1, DIMENSION).astype(np.float32)
    probes = (centers[:100] + 0.7 * random.standard_normal((min(100, people), DIMENSION))).astype(np.float32)
    return [f"person {number // REFERENCES}" for number in range(people * REFERENCES)], references, probes


def legacy_way(content: bytes, probes: Matrix) -> dict[str, float]:
    """Return the seconds of parsing and matching, which every request of the legacy recognizer needs."""
    parse_seconds, (labels, matrix) = timed(lambda: legacy_recognizer.parse(content))
    kind_seconds = [timed(lambda: legacy_recognizer.parse_kindly(content))[0] for _ in range(3)]
    match_seconds = [timed(partial(legacy_recognizer.match, labels, matrix, probe))[0] for probe in probes[:5]]
    match = statistics.median(match_seconds)
    return {
        "legacy: parse as it was, seconds": parse_seconds,
        "legacy: parse kindly, seconds": statistics.median(kind_seconds),
        "legacy: match, seconds": match,
        "legacy as it was, seconds": parse_seconds + match,
        "legacy kindly, seconds": statistics.median(kind_seconds) + match,
    }


async def our_way(folder: Path, content: bytes, probes: Matrix, requests: int) -> dict[str, Any]:
    """Return the seconds from a received dataset to the label, one transaction for each request. The first loads it."""
    space = external_space(f"external:bench:{DIMENSION}")
    assert space is not None
    labels, matrix = legacy_recognizer.parse_kindly(content)
    async with open_database(Settings(_env_file=None, data_dir=folder / "data")) as database:
        migrate(database.logins)
        async with operator_transaction(database.engine) as connection:
            tenant_id = await create_tenant(connection, "bench", UNLIMITED)

        async def request(dataset: UploadedDataset, probe: Matrix) -> str:
            async with tenant_session(database.engine, tenant_id) as session:
                gallery = await gallery_of_dataset(session, dataset, space, timedelta(days=1))
                best = decide_by_votes((await count_votes(session, gallery, [probe], VOTING_COSINE))[0])
                await session.commit()
            return legacy_recognizer.NOBODY if best is None else best.name

        arrived = [await _arrived(content) for _ in range(4)]
        dataset = arrived[0][1]
        seconds = []
        for number in range(requests):
            probe = probes[number % len(probes)]
            began = time.perf_counter()
            label = await request(dataset, probe)
            seconds.append(time.perf_counter() - began)
            if number % 20 == 0:
                assert label == legacy_recognizer.match(labels, matrix, probe)
        state = schema_state(database.logins)
    return {
        "ours: hashing left after the last byte, seconds": statistics.median(one for one, _ in arrived),
        "ours: first request, seconds": seconds[0],
        "ours: median of the others, seconds": statistics.median(seconds[1:]),
        "ours: last request, seconds": seconds[-1],
        "postgresql": f"{state.postgresql}, pgvector {state.pgvector}",
    }


async def _arrived(content: bytes) -> tuple[float, UploadedDataset]:
    """Return the dataset as a request receives it, and the seconds that its digest takes after the last byte."""
    arriving = ArrivingDataset()
    for start in range(0, len(content), PIECE_BYTES):
        await arriving.add([content[start : start + PIECE_BYTES]])
        await asyncio.sleep(0)
    began = time.perf_counter()
    dataset = await arriving.complete()
    return time.perf_counter() - began, dataset


def over_http(folder: Path, content: bytes, requests: int) -> dict[str, float]:
    """Return the seconds of whole requests, with upload, of this service and of parsing and matching behind FastAPI."""
    picture = draw_people(["somebody"])
    body = _form({"file": picture, "dataset": content})
    environment = os.environ | {"DATA_DIR": str(folder / "served"), "ENCODER": "fake", "LEGACY_API": "open"}
    serve = [str(Path(sys.executable).with_name("face-identity")), "serve", "--port", str(PORT)]
    with server(serve, environment):
        ours = [_post(body) for _ in range(requests)]
    with server([sys.executable, "-m", "benchmarks.legacy_server", str(PORT)], dict(os.environ)):
        legacy = [_post(body) for _ in range(3)]
    return {
        "ours over HTTP: first request, seconds": ours[0],
        "ours over HTTP: median of the others, seconds": statistics.median(ours[1:]),
        "ours over HTTP: last request, seconds": ours[-1],
        "legacy kindly over HTTP, seconds": statistics.median(legacy),
    }


@contextmanager
def server(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Run a server on the benchmark's port."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{PORT}/docs", timeout=5)
                break
            except httpx.TransportError:
                assert process.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < deadline, "no answer"
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _post(body: bytes) -> float:
    """Send one request whose body is prepared, so that the client costs as little as possible."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=600)
    began = time.perf_counter()
    connection.request("POST", "/recognizer/image", body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
    answer = connection.getresponse()
    faces = json.loads(answer.read())["faces"]
    seconds = time.perf_counter() - began
    assert answer.status == 200
    assert faces
    connection.close()
    return seconds


def _form(files: dict[str, bytes]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'.encode() + content
        for name, content in files.items()
    ]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def ratios(measured: dict[str, Any]) -> dict[str, float]:
    """Return how many times as fast the last request is as the legacy recognizer."""
    last = measured["ours: last request, seconds"] + measured["ours: hashing left after the last byte, seconds"]
    found = {
        "times faster than it was": measured["legacy as it was, seconds"] / last,
        "times faster than kindly": measured["legacy kindly, seconds"] / last,
    }
    if "legacy kindly over HTTP, seconds" in measured:
        whole = measured["ours over HTTP: last request, seconds"]
        kindly = measured["legacy kindly over HTTP, seconds"]
        copies = measured["legacy as it was, seconds"] - measured["legacy kindly, seconds"]
        found["times faster than kindly, upload included"] = kindly / whole
        found["times faster than it was, upload included"] = (kindly + copies) / whole
    return found


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds and result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
