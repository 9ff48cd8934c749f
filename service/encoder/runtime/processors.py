"""Number of processors that this process may use: its CPU affinity and, in a container, its quota."""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_processors(quota_file: Path = _QUOTA) -> int:
    """Whole processors, at least 1. A quota of 1.5 counts as 2, because waiting threads cost less than idle
    processors.
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
