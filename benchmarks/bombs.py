"""`python -m benchmarks.bombs` measures how long small requests wait while another client sends decompression bombs,
and progressive JPEGs of thousands of scans.

The measure is p99, compared with as many uploads of the same size that are no images. A separate process sends them,
so that only the server is measured. The bombs cause no delay of their own if the ratio is near 1.
"""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.encoder.served import GALLERY
from benchmarks.machine import keep, table
from tests.security.test_uploads import BOMBS, png_bomb
from tests.support.bombs import jpeg_of_scans
from tests.support.server import ServerProcess

SECONDS = 10.0
SCANS = 2000
SIDE = 6000
"""Of the JPEG, in pixels: fewer than the limit."""
PAUSE_SECONDS = 0.01
# Sends the file as an image again and again with the given concurrency, and prints how often it was too large.
_ATTACKER = """
import asyncio, sys, time
import httpx
url, key, path, concurrency, seconds = sys.argv[1:]
upload = open(path, "rb").read()

async def attack(client, end):
    refused = 0
    while time.monotonic() < end:
        answer = await client.post("/v1/galleries/staff/recognize", files={"image": ("a.png", upload)})
        refused += answer.status_code in (413, 422)
    return refused

async def main():
    limits = httpx.Limits(max_connections=int(concurrency))
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=60, limits=limits) as client:
        end = time.monotonic() + float(seconds)
        print(sum(await asyncio.gather(*[attack(client, end) for _ in range(int(concurrency))])))

asyncio.run(main())
"""


def main() -> None:
    """Measure, print a table, save the figures."""
    uploads = {"harmless": bytes(len(png_bomb())), "bombs": png_bomb(), "scans": jpeg_of_scans(SCANS, SIDE, SIDE)}
    with tempfile.TemporaryDirectory(prefix="face-identity-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user
        server = ServerProcess(Path(folder), LOGGER_LEVEL="WARNING")
        key = server.new_key()
        server.start()
        try:
            figures = {kind: _beside(server, key, Path(folder), upload) for kind, upload in uploads.items()}
        finally:
            server.close()
    ratio = figures["bombs"]["p99_ms"] / figures["harmless"]["p99_ms"]
    rows = [[kind, one["refused"], f"{one['p99_ms']:.1f}"] for kind, one in figures.items()]
    print(table(["uploads", "refused", "p99 of others (ms)"], rows))
    keep("bombs", {**figures, "p99_ratio": ratio})


def _beside(server: ServerProcess, key: str, folder: Path, upload: bytes) -> dict[str, Any]:
    (folder / "upload").write_bytes(upload)
    arguments = [server.url, key, str(folder / "upload"), str(BOMBS), str(SECONDS)]
    with server.client(key) as client:
        client.post("/v1/galleries", json={"name": GALLERY})
        attacker = subprocess.Popen([sys.executable, "-c", _ATTACKER, *arguments], stdout=subprocess.PIPE, text=True)
        stop = threading.Event()
        threading.Timer(SECONDS, stop.set).start()
        waits = _seconds_of_others(client, stop)
    return {"refused": int(attacker.communicate()[0]), "p99_ms": 1000 * statistics.quantiles(waits, n=100)[98]}


def _seconds_of_others(client: httpx.Client, stop: threading.Event) -> list[float]:
    """Return the seconds of small requests, sent one after the other until the event is set."""
    seconds: list[float] = []
    while not stop.is_set():
        began = time.perf_counter()
        client.get(f"/v1/galleries/{GALLERY}").raise_for_status()
        seconds.append(time.perf_counter() - began)
        time.sleep(PAUSE_SECONDS)
    return seconds


if __name__ == "__main__":
    main()
