"""A fixed number of threads that run the most urgent work first. None of it runs on the event loop.

Embedding comes first (those images are nearly done), then images of interactive requests, then bulk work. No library of
the standard has a thread pool with priorities and a share for the lowest.
"""

import threading
from collections import deque
from collections.abc import Callable
from enum import IntEnum


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
        self._waiting: dict[Priority, deque[Callable[[], None]]] = {urgency: deque() for urgency in Priority}
        self._changed = threading.Condition()
        self._closed = False
        self._since_bulk = 0
        self._started = [threading.Thread(target=self._work, name=f"encoder-{n}", daemon=True) for n in range(threads)]
        for thread in self._started:
            thread.start()

    def submit(self, work: Callable[[], None], urgency: Priority) -> None:
        """Queue `work` for a thread. Raises RuntimeError after close, except for work that finishes images in progress.

        Running work submits that. Its own thread runs it next, so it is not lost if all other threads have ended.
        """
        with self._changed:
            if self._closed and urgency is not Priority.FINISHING:
                raise RuntimeError("the encoders are closed")
            self._waiting[urgency].append(work)
            self._changed.notify()

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
                while not any(self._waiting.values()):
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
        urgency = next(urgency for urgency in Priority if self._waiting[urgency])
        self._since_bulk = 0 if urgency is Priority.BULK else self._since_bulk + 1
        return self._waiting[urgency].popleft()
