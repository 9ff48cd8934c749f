"""What goes on in a process at this moment, so that runs of networks divide the processors among them."""

import contextlib
import threading
from collections.abc import Iterator


class RunCounter:
    """Counts the pictures in hand, waiting ones too, and the networks that run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures = 0
        self._runs = 0

    @contextlib.contextmanager
    def picture(self) -> Iterator[None]:
        """A picture is in hand inside the block."""
        with self._lock:
            self._pictures += 1
        try:
            yield
        finally:
            with self._lock:
                self._pictures -= 1

    def begin(self) -> bool:
        """Count one more run; True where it may have every processor: no other run, no other picture in hand.

        A run on both of 2 processors takes 1.4 times the processor time of one on one, so it pays only where the
        other processor would have nothing to do.
        """
        with self._lock:
            self._runs += 1
            return self._runs == 1 and self._pictures <= 1

    def end(self) -> None:
        """Count one run less."""
        with self._lock:
            self._runs -= 1
