"""Deadlines of a request body: for a silent client, for a slow one, and for the body as a whole.

An average over the whole body is not enough: a client that sends most of a large body at once could then take hours
for the rest, and the server would hold what has arrived. So the speed is measured over a sliding window.
"""

from collections import deque

from service.errors import RequestTimedOut

LEAST_BYTES_PER_SECOND = 1024
"""Minimum speed over any time as long as the allowed silence."""
_MARKS = 10
"""Marks of one window: the window moves in steps of a tenth of its length."""


class Pace:
    """Measures how fast one body arrives. Counts only the time in which the server waited for the client.

    `silence_seconds` is the longest pause and the length of the window; `whole_seconds` is the deadline of the body.
    """

    def __init__(self, silence_seconds: float, whole_seconds: float) -> None:
        self._silence_seconds = silence_seconds
        self._whole_seconds = whole_seconds
        self._waited = 0.0
        self._received = 0
        self._marks: deque[tuple[float, int]] = deque([(0.0, 0)])
        """Seconds waited and bytes received at the beginning of the window, and later in it."""

    @property
    def patience_seconds(self) -> float:
        """How long the server waits for the next piece."""
        return max(0.0, min(self._silence_seconds, self._whole_seconds - self._waited))

    def count(self, seconds: float, size: int) -> None:
        """Count a piece of `size` bytes that took `seconds`. Raises RequestTimedOut if the body is too slow."""
        self._waited += seconds
        self._received += size
        if self._waited > self._whole_seconds:
            raise self.error()
        while len(self._marks) > 1 and self._waited - self._marks[1][0] >= self._silence_seconds:
            self._marks.popleft()
        begun, before = self._marks[0]
        window = self._waited - begun
        if window > self._silence_seconds and self._received - before < window * LEAST_BYTES_PER_SECOND:
            raise RequestTimedOut(f"the body arrives slower than {LEAST_BYTES_PER_SECOND} bytes per second")
        if self._waited - self._marks[-1][0] >= self._silence_seconds / _MARKS:
            self._marks.append((self._waited, self._received))

    def error(self) -> RequestTimedOut:
        """The error for a piece that did not arrive within `patience_seconds`."""
        if self._silence_seconds <= self._whole_seconds - self._waited:
            return RequestTimedOut(f"no data arrived for {self._silence_seconds:g} seconds")
        return RequestTimedOut(f"the body did not arrive within {self._whole_seconds:g} seconds")
