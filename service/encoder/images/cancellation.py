"""Tells work in another thread or process that nobody waits for its result any more."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError


class Cancellation:
    """Set once, from any thread. The work asks for it between its steps, or lets itself be called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.is_set = False

    def cancel(self) -> None:
        """Set it, and call every callback in this thread. A callback must not wait."""
        with self._lock:
            self.is_set = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def raise_if_set(self) -> None:
        """Raise CancelledError if nobody waits any more."""
        if self.is_set:
            raise CancelledError

    @contextlib.contextmanager
    def calls(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` if it is set while the block runs, or at once if it is set already."""
        with self._lock:
            is_set = self.is_set
            if not is_set:
                self._callbacks.append(callback)
        if is_set:
            callback()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._callbacks.remove(callback)
