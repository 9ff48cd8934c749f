"""The interface of every engine."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.search.crowds import Matrix
from benchmarks.search.workload import Workload

CANDIDATES = 5


@dataclass(frozen=True)
class Answer:
    """The nearest person's number and similarity, and the seconds of the search."""

    person: int
    similarity: float
    seconds: float


class Peer:
    """One engine with one crowd in it."""

    most_faces = 10_000_000
    """Larger crowds are left out, because one run would take hours."""
    note = ""

    def build(self, workload: Workload, folder: Path) -> None:
        """Enroll everybody and build the indexes. Store them in the folder if the engine can."""
        raise NotImplementedError

    def search(self, probe: Matrix) -> tuple[int, float]:
        """Return the nearest person's number and similarity."""
        raise NotImplementedError

    def ask(self, probes: Matrix) -> list[Answer]:
        """Search one probe after the other, each with its seconds."""
        answers = []
        for probe in probes:
            began = time.perf_counter()
            person, similarity = self.search(probe)
            answers.append(Answer(person, similarity, time.perf_counter() - began))
        return answers

    def insert(self, embedding: Matrix, person: int) -> None:
        """Enroll one more face of a new person."""
        raise NotImplementedError

    def reopen(self) -> None:
        """Stop and start again from the stored data."""
        raise NotImplementedError

    def close(self) -> None:
        """Release everything."""

    def bytes_on_disk(self) -> dict[str, int]:
        """Return the stored bytes by part, with the sum under `total`."""
        raise NotImplementedError

    def bytes_in_memory(self) -> int | None:
        """Return the memory of other processes; None for an engine inside this process."""
        return None

    def rate(self, probes: Matrix, clients: int, seconds: float) -> float:
        """Return searches a second of `clients` concurrent clients: threads, for an engine inside this process."""
        counts = [0] * clients
        end = time.perf_counter() + seconds

        def client(number: int) -> None:
            place = number
            while time.perf_counter() < end:
                self.search(probes[place % len(probes)])
                counts[number] += 1
                place += clients

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - started)

    def rate_of_programs(self, probes: Matrix, programs: int, seconds: float) -> float | None:  # noqa: ARG002
        """The same for `clients` programs with one client each; None if only one program can open the engine."""
        return None


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
