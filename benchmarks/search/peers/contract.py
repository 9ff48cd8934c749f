"""What is asked of every engine."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.search.crowds import Matrix
from benchmarks.search.workload import Workload

CANDIDATES = 5


@dataclass(frozen=True)
class Answer:
    """The nearest person's number and similarity, and how long that took."""

    person: int
    similarity: float
    seconds: float


class Peer:
    """One engine with one crowd in it."""

    most_faces = 10_000_000
    """Larger crowds are left out, because one run would take hours."""
    note = ""

    def build(self, workload: Workload, folder: Path) -> None:
        """Enroll everybody and make what makes searches fast; keep it in the folder as far as the engine does."""
        raise NotImplementedError

    def search(self, probe: Matrix) -> tuple[int, float]:
        """The nearest person's number and similarity."""
        raise NotImplementedError

    def ask(self, probes: Matrix) -> list[Answer]:
        """One search after the other, each with the seconds it took."""
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
        """Stop and start again from what is kept."""
        raise NotImplementedError

    def close(self) -> None:
        """Give everything back."""

    def bytes_on_disk(self) -> dict[str, int]:
        """What is kept, by part; the total under `total`."""
        raise NotImplementedError

    def bytes_in_memory(self) -> int | None:
        """Of processes beside this one; None for an engine inside this process."""
        return None

    def rate(self, probes: Matrix, clients: int, seconds: float) -> float:
        """Searches a second of so many clients at once: threads, for an engine inside this process."""
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
        """The same of so many programs with one client each; None for an engine that only one program can hold."""
        return None


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
