"""Locks on files, which the kernel releases when their process ends."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from service.database.embedded.cluster import Account
from service.database.embedded.postmaster import POLL_SECONDS
from service.errors import DatabaseUnavailable

START_TIMEOUT_SECONDS = 600.0  # recovery after a crash replays up to max_wal_size (1 GB) of log


def open_lock(path: Path, account: Account) -> int:
    """Open a lock file for reading, which is enough to lock it, and make the server's user its owner."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    account.take_over(path)
    return descriptor


def try_lock(descriptor: int, kind: int) -> bool:
    """Take the lock, or return False if another process holds it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def exclusive(path: Path, account: Account, timeout_seconds: float = START_TIMEOUT_SECONDS) -> Iterator[None]:
    """Hold the lock that every process takes to start, join or leave the server."""
    descriptor = open_lock(path, account)
    try:
        give_up = time.monotonic() + timeout_seconds
        while not try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > give_up:
                raise DatabaseUnavailable(
                    f"another process is still starting or stopping the database in {path.parent}"
                )
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
