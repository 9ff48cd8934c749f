"""`python -m benchmarks.encoder.overload` sends ten times the images a second that the server can answer, for a minute.

It measures one client alone, then as many clients as saturate the server, then the overload at a fixed rate
whatever the answers are, then the saturating clients again. Clients ignore Retry-After, as the worst clients do.
Health is requested during the overload.
"""

import argparse
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.encoder.client import Answer, Answers, drive, recognize_requests
from benchmarks.encoder.pictures import PACK, PHOTOGRAPHS, photographs
from benchmarks.encoder.served import GALLERY, Served, served
from benchmarks.machine import keep, table

TIMES = 10
SATURATING_CLIENTS = 4
CONNECTIONS = 100
RECOVERY_SECONDS = 10.0


def main() -> None:
    """Measure, print a table, save the figures."""
    arguments = _arguments()
    pictures = photographs(arguments.pictures)
    with served(arguments.pack, arguments.pictures / "people") as service:
        requests = recognize_requests(service.server.url, service.key, GALLERY, pictures)
        figures = _measure(service, requests, arguments.seconds)
    _print(figures)
    keep("encoder-overload", figures)


def _measure(service: Served, requests: Sequence[bytes], seconds: float) -> dict[str, Any]:
    url = service.server.url
    drive(url, requests, SATURATING_CLIENTS, lambda turn: turn < 4 * len(requests))  # warm-up
    alone = drive(url, requests, 1, lambda turn: turn < 8 * len(requests))
    before = drive(url, requests, SATURATING_CLIENTS, lambda turn: turn < 12 * len(requests))
    with _Health(url) as health:
        during = at_rate(url, requests, TIMES * before.rate(), seconds)
        ended = time.perf_counter()
        after = drive(url, requests, SATURATING_CLIENTS, lambda _: time.perf_counter() - ended < RECOVERY_SECONDS)
    return {
        "seconds": seconds,
        "clients that saturate": SATURATING_CLIENTS,
        "alone": _described(alone),
        "saturated": _described(before),
        "overload": _described(during) | {"offered_a_second": len(during.all) / during.seconds},
        "p99_of_accepted_to_p99_alone": _percentile(during, 99) / _percentile(alone, 99),
        "p99_of_accepted_to_p99_saturated": _percentile(during, 99) / _percentile(before, 99),
        "after": _described(after) | {"recovered_after_seconds": recovered_after(after.all, ended, before.rate())},
        "health": health.described(),
    }


def at_rate(url: str, requests: Sequence[bytes], rate: float, seconds: float) -> Answers:
    """Send `rate` requests a second, whatever is answered. A request is late only if every connection is waiting."""
    began = time.perf_counter()

    def is_due(turn: int) -> bool:
        """Wait until the request is due. Returns False when the time is over."""
        if turn / rate >= seconds:
            return False
        time.sleep(max(0.0, began + turn / rate - time.perf_counter()))
        return time.perf_counter() <= began + seconds

    return drive(url, requests, CONNECTIONS, is_due)


def recovered_after(answers: Sequence[Answer], since: float, usual_rate: float) -> float | None:
    """Return the seconds from `since` to the first second without a refusal that has nine tenths of the usual rate."""
    for second in range(int(RECOVERY_SECONDS)):
        here = [answer for answer in answers if second <= answer.came - since < second + 1]
        if len(here) >= 0.9 * usual_rate and all(answer.status == 200 for answer in here):
            return second + 1.0
    return None


class _Health:
    """Requests /healthz and /readyz every quarter of a second."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._seconds: list[float] = []
        self._failures: list[str] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "_Health":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def described(self) -> dict[str, Any]:
        """The number of requests and failures, and how long answers took."""
        ordered = sorted(self._seconds)
        return {"asked": len(ordered), "failed": self._failures, "median": _at(ordered, 50), "slowest": ordered[-1]}

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as client:
            for path in _in_turn("/healthz", "/readyz", until=self._over):
                began = time.perf_counter()
                try:
                    status = client.get(path).status_code
                    if status != 200:
                        self._failures.append(f"{path}: {status}")
                except httpx.HTTPError as error:
                    self._failures.append(f"{path}: {type(error).__name__}")
                self._seconds.append(time.perf_counter() - began)


def _in_turn(*paths: str, until: threading.Event) -> Any:
    turn = 0
    while not until.wait(0.25):
        yield paths[turn % len(paths)]
        turn += 1


def _described(answers: Answers) -> dict[str, Any]:
    refused = [answer for answer in answers.all if answer.status == 503]
    return {
        "statuses": answers.statuses(),
        "connections_without_an_answer": answers.broken,
        "answered_a_second": answers.rate(),
        "p50_seconds": _percentile(answers, 50),
        "p99_seconds": _percentile(answers, 99),
        "refusals_without_retry_after": sum(answer.retry_after is None for answer in refused),
        "p99_seconds_of_refusals": _at(sorted(answer.seconds for answer in refused), 99) if refused else None,
        "client_cpu_share_of_a_core": answers.client_cpu_seconds / answers.seconds,
    }


def _percentile(answers: Answers, percent: float) -> float:
    """Of the answers with status 200."""
    return _at(sorted(answer.seconds for answer in answers.all if answer.status == 200), percent)


def _at(ordered: Sequence[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * percent / 100) - 1)]


def _print(figures: dict[str, Any]) -> None:
    columns = ("answered_a_second", "p50_seconds", "p99_seconds", "statuses", "connections_without_an_answer")
    rows = [
        [name, *(figures[name][column] for column in columns)] for name in ("alone", "saturated", "overload", "after")
    ]
    print(table(["load", *columns], rows))
    print(f"offered a second: {figures['overload']['offered_a_second']:.0f}")
    for name in ("alone", "saturated"):
        print(f"p99 of accepted, of p99 {name}: {figures[f'p99_of_accepted_to_p99_{name}']:.2f}")
    print(f"health: {figures['health']}")
    print(f"recovered after {figures['after']['recovered_after_seconds']} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--pack", type=Path, default=PACK)
    parser.add_argument("--pictures", type=Path, default=PHOTOGRAPHS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
