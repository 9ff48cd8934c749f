"""The processors: how many this process may use, and how the runs of networks divide them."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_processors(quota_file: Path = _QUOTA) -> int:
    """Whole processors, at least 1: the CPU affinity and, in a container, the quota.

    A quota of 1.5 counts as 2, because waiting threads cost less than idle processors.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _quota_processors(quota_file)
    return max(1, allowed if quota is None else min(allowed, quota))


def _quota_processors(quota_file: Path) -> int | None:
    """The limit of the control group, rounded up, or None (https://docs.kernel.org/admin-guide/cgroup-v2.html)."""
    try:
        quota, period = quota_file.read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return None


class RunCounter:
    """Counts the images in progress, waiting ones included, and the running networks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._images = 0
        self._runs = 0

    @contextlib.contextmanager
    def image(self) -> Iterator[None]:
        """Count an image as in progress inside the block."""
        with self._lock:
            self._images += 1
        try:
            yield
        finally:
            with self._lock:
                self._images -= 1

    def begin(self) -> bool:
        """Count one more run. True if it may use every processor: no other run, and no other image in progress.

        A run on both of 2 processors takes 1.4 times the processor time of a run on one, so it pays only if the other
        processor would be idle.
        """
        with self._lock:
            self._runs += 1
            return self._runs == 1 and self._images <= 1

    def end(self) -> None:
        """Count one run less."""
        with self._lock:
            self._runs -= 1
