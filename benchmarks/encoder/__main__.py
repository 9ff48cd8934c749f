"""`python -m benchmarks.encoder`: recognize over HTTP against loops without a server, on the same pictures.

Images a second with 1, 4 and 16 clients, CPU seconds a picture, and which share of them each stage takes.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.encoder import loops
from benchmarks.machine import RESULTS, keep, table
from tests.support.server import ServerProcess

SHARED = Path(__file__).parents[3] / "shared"
CLIENTS = (1, 4, 16)


def main() -> None:
    """Measure, print a table, keep the figures and draw them."""
    arguments = _arguments()
    pictures = [path.read_bytes() for path in sorted(arguments.pictures.rglob("*.jpg"))]
    seconds, pack = arguments.seconds, arguments.pack
    figures: dict[str, Any] = {"pictures": len(pictures), "seconds": seconds, "images_a_second": {}}
    rates = figures["images_a_second"]
    rates["bare loop, 1 thread"] = loops.bare_loop(pack, pictures, seconds, 1)
    rates["bare loop, a thread a core"] = loops.bare_loop(pack, pictures, seconds, loops.processors())
    rates["FaceAnalysis in a loop"] = loops.face_analysis(pack, pictures, seconds)
    rates["one face at a time"] = loops.one_face_at_a_time(pack, pictures, seconds)
    stages = loops.stage_seconds(pack, pictures)
    figures["thread_seconds_a_picture"] = stages
    with tempfile.TemporaryDirectory(prefix="face-identity-bench-", ignore_cleanup_errors=True) as folder:
        server = ServerProcess(Path(folder), ENCODER=f"insightface:{pack.resolve()}", LOGGER_LEVEL="WARNING")
        try:
            figures |= _over_http(server, pictures, seconds, rates)
        finally:
            server.close()
    best = max(rate for name, rate in rates.items() if name.startswith("bare"))
    print(table(["way", "images/s", "of the best bare loop"], [[n, r, f"{r / best:.0%}"] for n, r in rates.items()]))
    print(table(["stage", "thread seconds a picture"], [[name, spent] for name, spent in stages.items()]))
    keep("encoder", figures)
    _draw(rates)


def _over_http(server: ServerProcess, pictures: list[bytes], seconds: float, rates: dict[str, float]) -> dict[str, Any]:
    key = server.new_key()
    began = time.perf_counter()
    server.start()
    ready = time.perf_counter() - began
    with server.client(key) as client:
        client.post("/v1/galleries", json={"name": "staff"}).raise_for_status()
    process = server.number
    statuses: dict[str, dict[int, int]] = {}
    costs: dict[str, float] = {}
    memory = [_resident_bytes(process)]
    for clients in CLIENTS:
        before = _processor_seconds(process)
        answered, spent, seen = asyncio.run(_clients(server.url, key, pictures, seconds, clients))
        name = f"HTTP, {clients} clients" if clients > 1 else "HTTP, 1 client"
        rates[name], statuses[name] = answered / spent, seen
        costs[name] = (_processor_seconds(process) - before) / max(1, answered)
        memory.append(_resident_bytes(process))
    return {
        "start_to_ready_seconds": round(ready, 2),
        "statuses": statuses,
        "server_cpu_seconds_a_picture": costs,
        "resident_mib": [round(size / 2**20, 1) for size in memory],
    }


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _clients(
    url: str, key: str, pictures: list[bytes], seconds: float, clients: int
) -> tuple[int, float, dict[int, int]]:
    """Answers with 200, seconds, and how often each status came."""
    seen: dict[int, int] = {}
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=60) as client:
        began = time.perf_counter()

        async def ask(first: int) -> None:
            turn = first
            while time.perf_counter() - began < seconds:
                files = {"image": ("a.jpg", pictures[turn % len(pictures)], "image/jpeg")}
                status = (await client.post("/v1/galleries/staff/recognize", files=files)).status_code
                seen[status] = seen.get(status, 0) + 1
                turn += 1

        await asyncio.gather(*(ask(number) for number in range(clients)))
        return seen.get(200, 0), time.perf_counter() - began, seen


def _draw(rates: dict[str, float]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(rates) + 1))
    axes.barh(list(rates), list(rates.values()))
    axes.invert_yaxis()
    axes.set_xlabel("images a second")
    figure.tight_layout()
    figure.savefig(RESULTS / "encoder.png", dpi=100)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--pack", type=Path, default=SHARED / "models" / "scrfd2.5g-mobilefacenet128")
    parser.add_argument("--pictures", type=Path, default=SHARED / "faces")
    return parser.parse_args()


if __name__ == "__main__":
    main()
