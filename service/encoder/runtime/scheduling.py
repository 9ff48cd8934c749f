"""Which work runs next: threads that take the most urgent work first, and batches of the faces that wait.

No work runs on the event loop. Embedding comes first, because its images are nearly done; then images of interactive
requests; then bulk work. Among images of one priority, and among faces, tenants take turns. The standard library has
no thread pool with priorities and a share for the lowest, so `PriorityThreads` is written here.

Faces of several images and requests are embedded together. A batch takes all faces that wait when it begins, and never
waits for more: a single face runs alone. A GPU session runs one batch at a time, so that batches grow meanwhile. On a
CPU as many batches run as there are threads.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from service.embedding import Embedding
from service.encoder.contract import Encoder, Image
from service.encoder.runtime.backpressure import QueueEntry
from service.turns import NOBODY, TurnQueue


class Priority(IntEnum):
    """Priority of work, lowest number first."""

    FINISHING = 0
    INTERACTIVE = 1
    BULK = 2


_BULK_SHARE = 16
"""While other work waits, every 16th piece of work is bulk work. So bulk work makes progress, and costs the others 6 %.
"""


class PriorityThreads:
    """Threads and their queues. Work must not raise."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._finishing: deque[Callable[[], None]] = deque()
        self._waiting: dict[Priority, TurnQueue[Callable[[], None]]] = {
            Priority.INTERACTIVE: TurnQueue(),
            Priority.BULK: TurnQueue(),
        }
        self._changed = threading.Condition()
        self._closed = False
        self._since_bulk = 0
        self._started = [threading.Thread(target=self._work, name=f"encoder-{n}", daemon=True) for n in range(threads)]
        for thread in self._started:
            thread.start()

    def submit(self, work: Callable[[], None], priority: Priority, tenant: int = NOBODY) -> None:
        """Queue `work` of a tenant for a thread.

        Raises RuntimeError after close, except for work that finishes images in progress.
        Running work submits that. Its own thread runs it next, so it is not lost if all other threads have ended.
        """
        with self._changed:
            if self._closed and priority is not Priority.FINISHING:
                raise RuntimeError("the encoders are closed")
            if priority is Priority.FINISHING:
                self._finishing.append(work)
            else:
                self._waiting[priority].append(tenant, work)
            self._changed.notify()

    def charge(self, priority: Priority, tenant: int, turns: float) -> None:
        """Charge a tenant for work that cost more than one turn, or less."""
        with self._changed:
            self._waiting[priority].charge(tenant, turns)

    def close(self) -> None:
        """Finish the submitted work, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._started:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._finishing or any(self._waiting.values())):
                    if self._closed:
                        return
                    self._changed.wait()
                work = self._next()
            work()

    def _next(self) -> Callable[[], None]:
        bulk = self._waiting[Priority.BULK]
        if bulk and self._since_bulk >= _BULK_SHARE:
            self._since_bulk = 0
            return bulk.popleft()
        if not self._finishing and not self._waiting[Priority.INTERACTIVE]:
            self._since_bulk = 0
            return bulk.popleft()
        self._since_bulk += 1
        return self._finishing.popleft() if self._finishing else self._waiting[Priority.INTERACTIVE].popleft()


@dataclass
class ImageEmbeddings:
    """The embeddings of one image's crops as they arrive, by number of the crop, and the thread seconds they cost."""

    entry: QueueEntry
    missing: int
    embeddings: dict[int, Embedding] = field(default_factory=dict)
    seconds: float = 0.0
    done: "Future[list[Embedding]]" = field(default_factory=Future)


class _WaitingCrop(NamedTuple):
    crop: Image
    image: ImageEmbeddings
    number: int


class Batching:
    """The recognition network of one encoder, shared by all images."""

    def __init__(self, encoder: Encoder, threads: PriorityThreads) -> None:
        self._encoder = encoder
        self._threads = threads
        self._most_runs = 1 if encoder.batching.one_at_a_time else threads.threads
        self._lock = threading.Lock()
        self._waiting: TurnQueue[_WaitingCrop] = TurnQueue()
        self._runs = 0

    def submit(self, crops: Sequence[Image], entry: QueueEntry) -> ImageEmbeddings:
        """Queue the crops. `done` will hold one embedding per crop, in order."""
        image = ImageEmbeddings(entry, len(crops))
        if not crops:
            _succeed(image)
        with self._lock:
            for number, crop in enumerate(crops):
                self._waiting.append(entry.tenant, _WaitingCrop(crop, image, number))
            wanted = -(-len(self._waiting) // self._encoder.batching.largest)
            starts = min(self._most_runs - self._runs, wanted)
            self._runs += max(0, starts)
        for _ in range(starts):
            self._threads.submit(self._run, Priority.FINISHING)
        return image

    def _run(self) -> None:
        """Run one batch. The next one is submitted as new work, so that threads are shared fairly."""
        batch = self._take_batch()
        if batch:
            self._embed(batch)
        with self._lock:
            is_more_waiting = bool(self._waiting)
            self._runs -= 0 if is_more_waiting else 1
        if is_more_waiting:
            self._threads.submit(self._run, Priority.FINISHING)

    def _take_batch(self) -> list[_WaitingCrop]:
        with self._lock:
            batch: list[_WaitingCrop] = []
            while self._waiting and len(batch) < self._encoder.batching.largest:
                waiting = self._waiting.popleft()
                if waiting.image.entry.cancelled:
                    waiting.image.done.cancel()
                else:
                    batch.append(waiting)
            return batch

    def _embed(self, batch: list[_WaitingCrop]) -> None:
        began = time.perf_counter()
        try:
            embeddings = self._encoder.embed([waiting.crop for waiting in batch])
        except Exception as error:  # of any class: every image of the batch must get it, or its request waits forever
            for image in {id(waiting.image): waiting.image for waiting in batch}.values():
                _fail(image.done, error)
            return
        seconds = (time.perf_counter() - began) / len(batch)
        with self._lock:
            finished = [
                waiting.image
                for waiting, embedding in zip(batch, embeddings, strict=True)
                if _add(waiting, embedding, seconds)
            ]
        for image in finished:
            _succeed(image)


def _add(waiting: _WaitingCrop, embedding: Embedding, seconds: float) -> bool:
    """Add the embedding to its image. Returns whether it was the last one of the image."""
    image = waiting.image
    image.embeddings[waiting.number] = embedding
    image.seconds += seconds
    image.missing -= 1
    return image.missing == 0


def _succeed(image: ImageEmbeddings) -> None:
    if image.done.set_running_or_notify_cancel():
        image.done.set_result([image.embeddings[number] for number in sorted(image.embeddings)])


def _fail(done: "Future[list[Embedding]]", error: Exception) -> None:
    if not done.done() and done.set_running_or_notify_cancel():
        done.set_exception(error)
