"""Stops an embedded server that was left running for the next command: `python -m service.database.embedded.caretaker`.

Starting the server takes most of the time of a short command. So the last command leaves it running and starts this
process, once for a folder. It waits until the time in `linger-until` has come, which every later command moves. Then
it stops the server unless a process uses it. If this process is killed, the server runs until the next command ends.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.resources import files
from pathlib import Path

from service.database.embedded.cluster import Account
from service.database.embedded.locks import exclusive, open_lock, try_lock
from service.database.embedded.postmaster import read_postmaster, stop_server

CHECK_SECONDS = 1.0
_DETACHED = '"$@" </dev/null >/dev/null 2>&1 &'
"""The shell exits, so that neither the command nor a pipe that reads its output waits for the caretaker."""


def leave_running(folder: Path, account: Account, linger_seconds: float) -> bool:
    """Let the server run for that time without a user. Returns False if the caller must stop it instead.

    The caller holds start.lock. As the first process of a container, a command ends the container and everything in it.
    """
    if linger_seconds <= 0 or os.getpid() == 1 or not sys.executable:
        return False
    mark = open_lock(folder / "linger-until", account)
    os.utime(mark, (until := time.time() + linger_seconds, until))
    os.close(mark)
    caretaker = open_lock(folder / "caretaker.lock", account)
    try:
        if try_lock(caretaker, fcntl.LOCK_EX):  # nobody holds it: no caretaker waits
            _start(folder)
    finally:
        os.close(caretaker)
    return True


def _start(folder: Path) -> None:
    """Run this module, apart from this process: signals and the end of a terminal do not reach it."""
    source = str(Path(str(files("service"))).parent)
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "service.database.embedded.caretaker", str(folder)]
    subprocess.run(  # noqa: S603 - fixed programs, no shell text from outside
        ["/bin/sh", "-c", _DETACHED, "sh", *command],
        check=False,
        cwd="/",
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    )


def wait_and_stop(folder: Path, ended: threading.Event) -> None:
    """Stop the server of the folder when its time has come, or when `ended` is set. Returns early if it ended."""
    account = Account(os.geteuid(), os.getegid())
    lock = os.open(folder / "caretaker.lock", os.O_RDONLY)
    if not try_lock(lock, fcntl.LOCK_EX):
        return  # another caretaker waits already
    while True:
        while (left := (folder / "linger-until").stat().st_mtime - time.time()) > 0 and not ended.is_set():
            server = read_postmaster(folder / "data")
            if server is None or not server.lives():
                return
            ended.wait(min(left, CHECK_SECONDS))
        with exclusive(folder / "start.lock", account):
            if (folder / "linger-until").stat().st_mtime > time.time() and not ended.is_set():
                continue
            in_use = os.open(folder / "in-use.lock", os.O_RDONLY)
            if try_lock(in_use, fcntl.LOCK_EX):
                stop_server(folder / "data")
            os.close(in_use)
            # Still inside start.lock: a process that leaves the server after this must see that no caretaker waits.
            os.close(lock)
            return


def main() -> None:
    """Run until the server is stopped or used by others. On SIGTERM, stop it now."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    # The folder may have been removed. PostgreSQL notices that too, and ends within a minute.
    with contextlib.suppress(FileNotFoundError):
        wait_and_stop(Path(sys.argv[1]), ended)


if __name__ == "__main__":
    main()
