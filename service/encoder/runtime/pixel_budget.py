"""A budget of decoded pixels: how many may be in memory at a time, over all images of a process.

A limit on the pixels of one image does not bound the memory of several: 8 images of 40 megapixels took 0.8 to 2.8 GB.
An image takes its share before it is decoded. If the share is not free, its thread waits, in the order of arrival, so a
large image is not overtaken forever. An image that needs more pixels later (the whole one after a reduced one) gives
its share back before it waits again. Nobody waits while holding a share, so there is no deadlock: every holder goes on
without another share, and releases its own.
"""

import threading
from collections import deque

from service.encoder.images.cancellation import Cancellation
from service.errors import ImageTooLarge

_PHOTOGRAPH_PIXELS = 12_000_000


def budget_for(image_pixels: int, threads: int) -> int:
    """The default: two of the largest images, or a photograph of 12 megapixels for each thread."""
    return max(2 * image_pixels, _PHOTOGRAPH_PIXELS * threads)


class PixelShare:
    """The share of one image."""

    def __init__(self, budget: "PixelBudget", cancellation: Cancellation) -> None:
        self._budget = budget
        self.cancellation = cancellation
        self.pixels = 0

    def enlarge(self, pixels: int) -> None:
        """Add that many pixels, and wait for them. Raises ImageTooLarge if they are more than the budget has, and
        CancelledError if nobody waits for the image any more.
        """
        self._budget.enlarge(self, pixels)

    def close(self) -> None:
        """Give the share back."""
        self._budget.release(self)


class PixelBudget:
    """The pixels that are free. Any thread may call any method."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self.used = 0
        self._changed = threading.Condition()
        self._turns: deque[PixelShare] = deque()

    @property
    def waiting(self) -> int:
        """Number of images that wait for their share."""
        return len(self._turns)

    def share(self, cancellation: Cancellation) -> PixelShare:
        """An empty share."""
        return PixelShare(self, cancellation)

    def enlarge(self, share: PixelShare, pixels: int) -> None:
        """See PixelShare."""
        if pixels > self.pixels:
            raise ImageTooLarge(f"{pixels} pixels, at most {self.pixels} may be decoded at a time")
        wanted = min(share.pixels + pixels, self.pixels)
        with share.cancellation.calls(self._wake), self._changed:
            self._give_back(share)
            self._turns.append(share)
            try:
                self._changed.wait_for(lambda: share.cancellation.is_set or self._may_enter(share, wanted))
                share.cancellation.raise_if_set()
                share.pixels = wanted
                self.used += wanted
            finally:
                self._turns.remove(share)
                self._changed.notify_all()

    def release(self, share: PixelShare) -> None:
        """See PixelShare."""
        with self._changed:
            self._give_back(share)

    def _may_enter(self, share: PixelShare, wanted: int) -> bool:
        return self._turns[0] is share and self.used + wanted <= self.pixels

    def _give_back(self, share: PixelShare) -> None:
        self.used -= share.pixels
        share.pixels = 0
        self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
