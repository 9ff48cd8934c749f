"""`python -m benchmarks.encoder` compares recognition over HTTP with loops without a server, on the same images.

Every way is measured in every round, so that other work of the machine affects all ways alike. The report has medians;
for shares, the median of the shares of the rounds. `python -m benchmarks.encoder.overload` and `.soak` are separate
programs.
"""

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.encoder import loops
from benchmarks.encoder.client import Answers, drive, recognize_requests
from benchmarks.encoder.pictures import PACK, PHOTOGRAPHS, crowds, photographs
from benchmarks.encoder.plot import draw
from benchmarks.encoder.served import GALLERY, served
from benchmarks.encoder.stages import stage_seconds
from benchmarks.encoder.wrapper_process import wrapper
from benchmarks.machine import keep, table

CLIENTS = (1, 4, 16)
Way = Callable[[int], float]
"""Returns images a second over all images, for the given number of passes."""


def main() -> None:
    """Measure, print tables, save the figures and draw them."""
    arguments = _arguments()
    with contextlib.ExitStack() as opened:
        service = opened.enter_context(served(arguments.pack, arguments.pictures / "people"))
        sets = {"photographs": photographs(arguments.pictures), "five faces and more": crowds(arguments.pictures)}
        figures: dict[str, Any] = {"rounds": arguments.rounds, "start_to_ready_seconds": service.start_to_ready_seconds}
        bare = loops.bare_loops(arguments.pack)
        analyses = opened.enter_context(loops.face_analysis(arguments.pack))
        other = opened.enter_context(wrapper(arguments.pack))
        for name, pictures in sets.items():
            asked = _Asked(service.server.url, recognize_requests(service.server.url, service.key, GALLERY, pictures))
            asked_other = _Asked(other, recognize_requests(other, "-", GALLERY, pictures))
            ways = _ways(bare, [loops.one_face_at_a_time(arguments.pack), *analyses], pictures, asked, asked_other)
            passes = max(1, round(arguments.images / len(pictures)))
            figures[name] = _rounds(ways, [loop.name for loop in bare], passes, arguments.rounds) | {
                "pictures": len(pictures),
                "images_a_measurement": passes * len(pictures),
                "client_cpu_seconds_a_picture": asked.client_cpu_seconds_a_picture(),
            }
            _print(name, figures[name])
        figures["cpu_seconds_a_picture"] = stage_seconds(service, arguments.pack, sets["photographs"])
    print(table(["stage", "CPU seconds a picture"], [[*row] for row in figures["cpu_seconds_a_picture"].items()]))
    print(f"from start to ready: {figures['start_to_ready_seconds']} s")
    keep("encoder", figures)
    draw(figures)


class _Asked:
    """A server that recognizes images. An answer other than 200 stops the measurement."""

    def __init__(self, url: str, requests: Sequence[bytes]) -> None:
        self._url, self._requests = url, requests
        self._all: list[Answers] = []

    def by(self, clients: int) -> Way:
        """Return a function that measures this server."""

        def measured(passes: int) -> float:
            most = passes * len(self._requests)
            answers = drive(self._url, self._requests, clients, lambda turn: turn < most)
            assert answers.statuses() == {200: most}, answers.statuses()
            self._all.append(answers)
            return answers.rate()

        return measured

    def client_cpu_seconds_a_picture(self) -> float:
        """Processor seconds that the client itself used for each image."""
        return sum(one.client_cpu_seconds for one in self._all) / sum(len(one.all) for one in self._all)


def _ways(
    bare: Sequence[loops.Loop], others: Sequence[loops.Loop], pictures: Sequence[bytes], asked: _Asked, other: _Asked
) -> dict[str, Way]:
    def by_loop(loop: loops.Loop) -> Way:
        return lambda passes: loop.rate(pictures, passes)

    # The ways that are compared most run directly one after the other in a round.
    ways = {f"HTTP, {clients} client{'s' if clients > 1 else ''}": asked.by(clients) for clients in CLIENTS}
    ways |= {loop.name: by_loop(loop) for loop in [*reversed(bare), *others]}
    return ways | {f"FaceAnalysis behind FastAPI, {clients} clients": other.by(clients) for clients in (4,)}


def _rounds(ways: dict[str, Way], bare: Sequence[str], passes: int, rounds: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(1)  # warm-up
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(way(passes))
    best = [max(rates[name][turn] for name in bare) for turn in range(rounds)]
    fair = rates["FaceAnalysis, its defaults (128 and 640)"]
    return {
        "images_a_second": {name: median(seen) for name, seen in rates.items()},
        "of_the_best_bare_loop": {name: _share(seen, best) for name, seen in rates.items()},
        "of_face_analysis": {name: _share(seen, fair) for name, seen in rates.items()},
        "every_round": rates,
    }


def _share(these: Sequence[float], those: Sequence[float]) -> float:
    return median(one / other for one, other in zip(these, those, strict=True))


def _print(name: str, measured: dict[str, Any]) -> None:
    print(f"{name}: {measured['pictures']} pictures, {measured['images_a_measurement']} images a measurement")
    rows = [
        [way, rate, f"{measured['of_the_best_bare_loop'][way]:.0%}", measured["of_face_analysis"][way]]
        for way, rate in measured["images_a_second"].items()
    ]
    print(table(["way", "images/s", "of the best bare loop", "times FaceAnalysis"], rows), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=102, help="of each measurement, about")
    parser.add_argument("--pack", type=Path, default=PACK)
    parser.add_argument("--pictures", type=Path, default=PHOTOGRAPHS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
