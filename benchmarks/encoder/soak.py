"""`python -m benchmarks.encoder.soak` checks that the server's memory stays constant over ten thousand images.

Resident memory of the server's process is read every hundred answers. It goes up and down by tens of MB with the
images in work, so medians of a thousand answers are compared: the thousand after warm-up (`WARM_UP` answers, so that
every image was sent often) and the last. They may differ by 20 MB. `--lock FILE` is held while images are sent and
released between the parts, for machines on which other programs measure too.
"""

import argparse
import contextlib
import fcntl
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.encoder.client import drive, recognize_requests
from benchmarks.encoder.pictures import PACK, PHOTOGRAPHS, crowds, photographs
from benchmarks.encoder.served import GALLERY, Served, served
from benchmarks.machine import keep, table

CLIENTS = 4
WARM_UP = 1000
STEP = 100
MAY_GROW_BYTES = 20_000_000


def main() -> None:
    """Send, print and save the figures."""
    arguments = _arguments()
    pictures = photographs(arguments.pictures) + crowds(arguments.pictures)
    with served(arguments.pack, arguments.pictures / "people") as service:
        requests = recognize_requests(service.server.url, service.key, GALLERY, pictures)
        figures = _soak(service, requests, arguments)
    print(table(["requests", "resident MB"], [[n, b / 1e6] for n, b in figures["resident_bytes"] if n % 1000 == 0]))
    warm, grown, most = (
        figures[f"{name}_bytes"] / 1e6 for name in ("median_after_warm_up", "growth_after_warm_up", "most")
    )
    print(f"from {warm:.1f} MB, the median after {WARM_UP} requests, grown by {grown:.1f} MB; most ever: {most:.1f} MB")
    keep("encoder-soak", figures)


def _soak(service: Served, requests: Sequence[bytes], arguments: argparse.Namespace) -> dict[str, Any]:
    resident = [(0, service.resident_bytes())]
    statuses: dict[int, int] = {}
    seconds, done = 0.0, 0
    while done < arguments.requests:
        with _held(arguments.lock):
            for _ in range(arguments.piece // STEP):
                answers = drive(service.server.url, requests[done % len(requests) :] + requests, CLIENTS, _first(STEP))
                done, seconds = done + STEP, seconds + answers.seconds
                for status, times in answers.statuses().items():
                    statuses[status] = statuses.get(status, 0) + times
                resident.append((done, service.resident_bytes()))
        print(done, f"{resident[-1][1] / 1e6:.1f} MB", statuses, flush=True)
        time.sleep(1 if arguments.lock else 0)
    warm = median(size for number, size in resident if WARM_UP < number <= 2 * WARM_UP)
    last = median(size for number, size in resident if number > done - WARM_UP)
    return {
        "requests": done,
        "clients": CLIENTS,
        "pictures": len(requests),
        "answered_a_second": done / seconds,
        "statuses": statuses,
        "resident_bytes": resident,
        "median_after_warm_up_bytes": warm,
        "growth_after_warm_up_bytes": last - warm,
        "most_bytes": max(size for _, size in resident),
        "lowest_after_warm_up_bytes": min(size for number, size in resident if number > WARM_UP),
        "may_grow_bytes": MAY_GROW_BYTES,
    }


def _first(most: int) -> Any:
    return lambda turn: turn < most


@contextlib.contextmanager
def _held(lock: Path | None) -> Iterator[None]:
    if lock is None:
        yield
        return
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--piece", type=int, default=2_000, help="requests for which the lock is held")
    parser.add_argument("--lock", type=Path)
    parser.add_argument("--pack", type=Path, default=PACK)
    parser.add_argument("--pictures", type=Path, default=PHOTOGRAPHS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
