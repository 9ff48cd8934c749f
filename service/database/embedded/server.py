"""The embedded PostgreSQL server with pgvector: one server for each folder, shared by all processes that need it.

The first process starts the server. The last one to leave stops it, or leaves that to a caretaker (`caretaker.py`).
Each process holds a shared lock on a file while it uses the server: the kernel releases the lock even if the process is
killed. A list of process numbers would be wrong after that.
"""

import atexit
import fcntl
import logging
import os
import time
from pathlib import Path

from service.database.embedded import cluster
from service.database.embedded.caretaker import leave_running
from service.database.embedded.cluster import Account
from service.database.embedded.locks import START_TIMEOUT_SECONDS, exclusive, open_lock, try_lock
from service.database.embedded.postmaster import (
    POLL_SECONDS,
    PORT,
    STOP_TIMEOUT_SECONDS,
    Postmaster,
    choose_socket_folder,
    end_orphans,
    make_socket_folder,
    read_postmaster,
    remove_socket_folder,
    stop_server,
)
from service.errors import DatabaseUnavailable

LOG_BYTES = 10 * 1024 * 1024
# Words in the log while processes of a killed server still run. They end by themselves, usually at once.
STILL_ENDING = ("still in use", "lock file")
# The shell exits and leaves the server to the machine's init process: otherwise this process would have to wait for it
# as its parent, or leave a zombie.
DETACHED = '"$@" </dev/null >>"$0" 2>&1 & echo $!'

logger = logging.getLogger(__name__)


class EmbeddedServer:
    """A handle on the running server. `stop`, the end of `with` and the end of the process leave the server."""

    def __init__(
        self, folder: Path, account: Account, in_use: int, running: Postmaster, linger_seconds: float = 0.0
    ) -> None:
        self.folder = folder
        self.url = running.url
        self._socket_folder = Path(running.socket_folder)
        self._account = account
        self._in_use: int | None = in_use
        self._linger_seconds = linger_seconds
        self._process = os.getpid()
        atexit.register(self.stop)

    def __enter__(self) -> "EmbeddedServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def is_running(self) -> bool:
        """Whether the server's process lives. It may still be recovering."""
        found = read_postmaster(self.folder / "data")
        return found is not None and found.lives()

    def start_again(self, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Start the server that ended by itself, at the same `url`. If another process did so already, only wait.

        No process stops the server while this handle exists, so an ended server has crashed or was killed.
        Raises DatabaseUnavailable, with the end of the server's log, if it is not ready in time.
        """
        deadline = time.monotonic() + timeout_seconds
        try:
            with exclusive(self.folder / "start.lock", self._account, timeout_seconds):
                if _join(self.folder / "data", deadline) is None:
                    _start(self.folder, self._account, deadline, self._socket_folder)
        except OSError as problem:
            raise DatabaseUnavailable(f"the database in {self.folder} does not start: {problem}") from problem

    def stop(self) -> None:
        """Leave the server. If no other process uses it, stop it, now or after `linger_seconds` without a user.

        A second call does nothing.
        """
        if self._in_use is None or os.getpid() != self._process:  # a forked child must not release its parent's lock
            return
        atexit.unregister(self.stop)
        in_use, self._in_use = self._in_use, None
        try:
            with exclusive(self.folder / "start.lock", self._account):
                fcntl.flock(in_use, fcntl.LOCK_UN)  # closing is not enough: a forked child has the file open too
                is_unused = try_lock(in_use, fcntl.LOCK_EX)
                if is_unused and not leave_running(self.folder, self._account, self._linger_seconds):
                    stop_server(self.folder / "data")
        except FileNotFoundError:
            logger.warning("the database folder %s was removed", self.folder)
        finally:
            os.close(in_use)


def start_embedded_server(
    folder: Path, timeout_seconds: float = START_TIMEOUT_SECONDS, linger_seconds: float = 0.0
) -> EmbeddedServer:
    """Start the server of the cluster in `folder`, or join it if it runs, and wait until it accepts queries.

    `folder` belongs to the server alone. It is created if missing (mode 0700) and keeps its data between runs. `url` of
    the handle is a libpq URL of the superuser `postgres`. Blocks: seconds for a new cluster, longer for recovery.
    If nobody uses the server after this handle, it runs for `linger_seconds` more. Raises DatabaseUnavailable, with the
    end of the server's log, if the server is not ready in time.
    """
    folder = folder.expanduser().resolve()
    try:
        account = cluster.account_of(folder)
        cluster.prepare_folder(folder, account)
        return _start_or_join(folder, account, timeout_seconds, linger_seconds)
    except OSError as problem:
        raise DatabaseUnavailable(f"the database in {folder} does not start: {problem}") from problem


def _start_or_join(folder: Path, account: Account, timeout_seconds: float, linger_seconds: float) -> EmbeddedServer:
    deadline = time.monotonic() + timeout_seconds
    with exclusive(folder / "start.lock", account, timeout_seconds):
        in_use = open_lock(folder / "in-use.lock", account)
        try:
            running = _join(folder / "data", deadline) or _start(folder, account, deadline)
            fcntl.flock(in_use, fcntl.LOCK_SH)
        except BaseException as problem:
            if not isinstance(problem, Exception) and try_lock(in_use, fcntl.LOCK_EX):
                stop_server(folder / "data")  # Ctrl-C while waiting: no other process would stop the server
            os.close(in_use)
            raise
    return EmbeddedServer(folder, account, in_use, running, linger_seconds)


def _join(data: Path, deadline: float) -> Postmaster | None:
    """Wait until the running server is ready. Returns None if none runs, after removing what a killed one left."""
    found = read_postmaster(data)
    last = found
    # A server that listens but is no process here runs in another container that mounts the same folder.
    while found is not None and found.data == str(data) and (found.lives() or found.listens()):
        if found.status == "ready" and found.answers():
            return found
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(f"the database in {data.parent} is not ready{_log_end(data.parent)}")
        if found.status == "stopping" or _is_lost(data):
            stop_server(data)
        time.sleep(POLL_SECONDS)
        last, found = found, read_postmaster(data)
    # PostgreSQL would refuse to start if another process has the number in this file.
    (data / "postmaster.pid").unlink(missing_ok=True)
    # If the path differs, this folder was copied or moved, and the file belongs to the server of the other folder.
    if last is not None and last.data == str(data):
        remove_socket_folder(last.socket_folder)
    return None


def _is_lost(data: Path) -> bool:
    """Whether a ready server cannot be reached because its socket was deleted from the temporary folder."""
    give_up = time.monotonic() + 2
    while time.monotonic() < give_up:
        found = read_postmaster(data)
        if found is None or found.status != "ready" or not found.lives() or found.listens():
            return False
        time.sleep(POLL_SECONDS)
    return True


def _start(folder: Path, account: Account, deadline: float, former_socket_folder: Path | None = None) -> Postmaster:
    """Start the server. Clients of a server that ended know `former_socket_folder`, so its socket is made there."""
    data = folder / "data"
    if not data.exists():
        logger.info("creating the database in %s", folder)
        cluster.make_cluster(data, account)
    cluster.write_settings(data, account)
    _rotate_log(folder / "server.log")
    socket_folder = former_socket_folder or choose_socket_folder(folder, account)
    if not socket_folder.exists():
        make_socket_folder(socket_folder, account)
    retry_until = time.monotonic() + STOP_TIMEOUT_SECONDS
    while True:
        log_start = _size(folder / "server.log")
        running = _wait_until_ready(data, _launch(folder, account, socket_folder), deadline)
        if running is not None:
            return running
        log_end = _log_end(folder, log_start)
        if not any(words in log_end for words in STILL_ENDING) or time.monotonic() > min(retry_until, deadline):
            remove_socket_folder(str(socket_folder))
            raise DatabaseUnavailable(f"the database in {folder} does not start{log_end}")
        end_orphans(data)
        time.sleep(0.5)


def _launch(folder: Path, account: Account, socket_folder: Path) -> int:
    """Run `postgres` detached from this process, without waiting. Returns its process number."""
    data = folder / "data"
    quoted = '"' + str(socket_folder).replace('"', '""') + '"'  # the setting is a comma-separated list
    command = [str(cluster.programs(data, account) / "postgres"), "-D", str(data), "-p", str(PORT)]
    command += [f"--unix_socket_directories={quoted}"]
    done = account.run(["/bin/sh", "-c", DETACHED, str(folder / "server.log"), *command], data)
    if done.returncode != 0:
        raise DatabaseUnavailable(f"the database in {folder} does not start: {done.stderr.strip()[-2000:]}")
    return int(done.stdout)


def _wait_until_ready(data: Path, process: int, deadline: float) -> Postmaster | None:
    """Wait until the server accepts queries. Returns None if it ended instead."""
    launched = Postmaster(process, str(data), "", "")
    report_at = time.monotonic() + 5
    while launched.lives():
        found = read_postmaster(data)
        if found is not None and found.process == process and found.status == "ready":
            return found
        if time.monotonic() > report_at:
            logger.warning("the database in %s is still recovering", data.parent)
            report_at += 30
        if time.monotonic() > deadline:
            # Recovery goes on; the next start joins the server.
            raise DatabaseUnavailable(f"the database in {data.parent} is still recovering{_log_end(data.parent)}")
        time.sleep(POLL_SECONDS)
    return None


def _rotate_log(path: Path) -> None:
    if _size(path) > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _log_end(folder: Path, start: int = 0) -> str:
    """The end of the server's log, as the end of an error message."""
    path = folder / "server.log"
    if not path.exists():
        return ""
    with path.open("rb") as log:
        log.seek(max(start, _size(path) - 2000))
        text = log.read().decode(errors="replace").strip()
    return f": {text}" if text else ""
