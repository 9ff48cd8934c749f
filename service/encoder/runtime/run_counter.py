"""Counts the work of a process, so that networks divide the processors among them."""

import contextlib
import threading
from collections.abc import Iterator


class RunCounter:
    """Counts the images in progress, waiting ones included, and the running networks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures = 0
        self._runs = 0

    @contextlib.contextmanager
    def picture(self) -> Iterator[None]:
        """Count an image as in progress inside the block."""
        with self._lock:
            self._pictures += 1
        try:
            yield
        finally:
            with self._lock:
                self._pictures -= 1

    def begin(self) -> bool:
        """Count one more run. True if it may use every processor: no other run, and no other image in progress.

        A run on both of 2 processors takes 1.4 times the processor time of a run on one, so it pays only if the other
        processor would be idle.
        """
        with self._lock:
            self._runs += 1
            return self._runs == 1 and self._pictures <= 1

    def end(self) -> None:
        """Count one run less."""
        with self._lock:
            self._runs -= 1
