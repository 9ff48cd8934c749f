"""How long other requests wait during bombs, which a separate process sends, so that only the server is measured."""

import statistics
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import httpx
import pytest

from tests.security.conftest import RunningServer
from tests.security.test_uploads import BOMBS, png_bomb

SECONDS = 10.0
PAUSE_SECONDS = 0.01
# Sends the file as an image repeatedly with the given concurrency, and prints how often it was refused as too large.
ATTACKER = """
import asyncio, sys, time
import httpx
url, key, path, at_once, seconds = sys.argv[1:]
bomb = open(path, "rb").read()

async def attack(client, end):
    refused = 0
    while time.monotonic() < end:
        answer = await client.post("/v1/galleries/staff/recognize", files={"image": ("a.png", bomb)})
        refused += answer.status_code == 413
    return refused

async def main():
    limits = httpx.Limits(max_connections=int(at_once))
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=60, limits=limits) as client:
        end = time.monotonic() + float(seconds)
        print(sum(await asyncio.gather(*[attack(client, end) for _ in range(int(at_once))])))

asyncio.run(main())
"""


def seconds_of_others(client: httpx.Client, stop: threading.Event) -> list[float]:
    """Return the seconds of small requests, sent one after the other until the event is set."""
    seconds: list[float] = []
    while not stop.is_set():
        begun = time.perf_counter()
        assert client.get("/v1/galleries/staff").status_code == 200
        seconds.append(time.perf_counter() - begun)
        time.sleep(PAUSE_SECONDS)
    return seconds


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


@pytest.mark.long
def test_bombs_do_not_delay_other_requests(running: RunningServer, tmp_path: Path) -> None:
    """Compared with as many uploads of the same size that are not images: the bombs themselves cause no delay."""
    (tmp_path / "bomb").write_bytes(png_bomb())
    (tmp_path / "harmless").write_bytes(bytes(len(png_bomb())))
    measured = {}
    with running.client(f"others-{uuid.uuid4().hex[:8]}") as client:
        client.post("/v1/galleries", json={"name": "staff"})
        for kind in ("harmless", "bomb"):
            arguments = [
                running.process.url,
                client.headers["x-api-key"],
                str(tmp_path / kind),
                str(BOMBS),
                str(SECONDS),
            ]
            attacker = subprocess.Popen([sys.executable, "-c", ATTACKER, *arguments], stdout=subprocess.PIPE, text=True)
            stop = threading.Event()
            threading.Timer(SECONDS, stop.set).start()
            measured[kind] = p99(seconds_of_others(client, stop))
            refused = int(attacker.communicate(timeout=60)[0])
            print(f"{kind}: {refused} refused as too large, p99 of others {measured[kind] * 1000:.1f} ms")
            assert (refused > BOMBS) == (kind == "bomb")
    assert measured["bomb"] < 2 * measured["harmless"]
