"""Batching: faces of several images and requests are embedded together.

A run takes all faces that wait when it begins, and never waits for more: a single face runs alone. A GPU session runs
one batch at a time, so that batches grow meanwhile. On a CPU as many runs go on as there are threads.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from service.embedding import Embedding
from service.encoder.contract import Encoder, Image
from service.encoder.runtime.backpressure import QueueEntry
from service.encoder.runtime.threads import Priority, PriorityThreads


@dataclass
class Embedded:
    """The embeddings of one image's crops as they arrive, and the thread seconds that they cost."""

    ticket: QueueEntry
    missing: int
    embeddings: dict[int, Embedding] = field(default_factory=dict)
    seconds: float = 0.0
    done: "Future[list[Embedding]]" = field(default_factory=Future)


class Batching:
    """The recognition network of one encoder, shared by all pictures."""

    def __init__(self, encoder: Encoder, workers: PriorityThreads) -> None:
        self._encoder = encoder
        self._workers = workers
        self._most_runs = 1 if encoder.batching.one_at_a_time else workers.threads
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Image, Embedded, int]] = deque()
        self._runs = 0

    def submit(self, crops: Sequence[Image], ticket: QueueEntry) -> Embedded:
        """Queue the crops. `done` will hold one embedding per crop, in order."""
        embedded = Embedded(ticket, len(crops))
        if not crops:
            _succeed(embedded)
        with self._lock:
            self._waiting.extend((crop, embedded, place) for place, crop in enumerate(crops))
            wanted = -(-len(self._waiting) // self._encoder.batching.largest)
            starts = min(self._most_runs - self._runs, wanted)
            self._runs += max(0, starts)
        for _ in range(starts):
            self._workers.submit(self._run, Priority.FINISHING)
        return embedded

    def _run(self) -> None:
        """Run one batch. The next one is submitted as new work, so that threads are shared fairly."""
        batch = self._taken()
        if batch:
            self._embed(batch)
        with self._lock:
            goes_on = bool(self._waiting)
            self._runs -= 0 if goes_on else 1
        if goes_on:
            self._workers.submit(self._run, Priority.FINISHING)

    def _taken(self) -> list[tuple[Image, Embedded, int]]:
        with self._lock:
            batch: list[tuple[Image, Embedded, int]] = []
            while self._waiting and len(batch) < self._encoder.batching.largest:
                one = self._waiting.popleft()
                if one[1].ticket.cancelled:
                    one[1].done.cancel()
                else:
                    batch.append(one)
            return batch

    def _embed(self, batch: list[tuple[Image, Embedded, int]]) -> None:
        began = time.perf_counter()
        try:
            embeddings = self._encoder.embed([crop for crop, _, _ in batch])
        except Exception as error:  # whatever the error is, everyone who waits for the batch must get it
            for embedded in {id(embedded): embedded for _, embedded, _ in batch}.values():
                _fail(embedded.done, error)
            return
        seconds = (time.perf_counter() - began) / len(batch)
        with self._lock:
            finished = [
                embedded
                for (_, embedded, place), embedding in zip(batch, embeddings, strict=True)
                if _received(embedded, place, embedding, seconds)
            ]
        for embedded in finished:
            _succeed(embedded)


def _received(embedded: Embedded, place: int, embedding: Embedding, seconds: float) -> bool:
    """Whether this was the last embedding of the image."""
    embedded.embeddings[place] = embedding
    embedded.seconds += seconds
    embedded.missing -= 1
    return embedded.missing == 0


def _succeed(embedded: Embedded) -> None:
    if embedded.done.set_running_or_notify_cancel():
        embedded.done.set_result([embedded.embeddings[place] for place in sorted(embedded.embeddings)])


def _fail(done: "Future[list[Embedding]]", error: Exception) -> None:
    if not done.done() and done.set_running_or_notify_cancel():
        done.set_exception(error)
