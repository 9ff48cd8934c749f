"""An embedded PostgreSQL with pgvector: one server a folder, shared by every process that asks for it.

The first process starts it, the last one to leave stops it. Who is using it is told by locks, which the kernel
releases when a process is killed, never by lists of process numbers, which go stale.
"""

import atexit
import contextlib
import fcntl
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from service.database import cluster
from service.database.cluster import Account
from service.errors import DatabaseUnavailable

PORT = 5432  # names the socket's file; there is no TCP port
SOCKET_PATH_BYTES = 103  # sockaddr_un takes 107 on Linux, 103 on macOS
SOCKET_FOLDER_PREFIX = "face-identity-socket-"
START_TIMEOUT_SECONDS = 600.0  # recovery after a crash replays up to max_wal_size (1 GB) of log
STOP_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.02
ENCRYPTION_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)  # "SSLRequest" of the PostgreSQL protocol
LOG_BYTES = 10 * 1024 * 1024
# Said while processes of a killed server still run; they end by themselves when they notice, mostly at once.
STILL_ENDING = ("still in use", "lock file")
# The shell leaves the server to the machine's first process, so that none of ours has to bury it as its parent.
DETACHED = '"$@" </dev/null >>"$0" 2>&1 & echo $!'

logger = logging.getLogger(__name__)


class EmbeddedServer:
    """A handle on the running server; leave it with `stop`, the end of `with`, or the end of the process."""

    def __init__(self, folder: Path, account: Account, in_use: int, url: str) -> None:
        self.folder = folder
        self.url = url
        self._account = account
        self._in_use: int | None = in_use
        self._process = os.getpid()
        atexit.register(self.stop)

    def __enter__(self) -> "EmbeddedServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Leaves the server, and stops it when nobody else uses it; a second call does nothing."""
        if self._in_use is None or os.getpid() != self._process:  # a forked child must not take the parent's lock away
            return
        atexit.unregister(self.stop)
        in_use, self._in_use = self._in_use, None
        try:
            with _exclusive(self.folder / "start.lock", self._account):
                fcntl.flock(in_use, fcntl.LOCK_UN)  # not by closing alone: a forked child has the file open too
                if _try_lock(in_use, fcntl.LOCK_EX):
                    _stop_server(self.folder / "data")
        except FileNotFoundError:
            logger.warning("the database folder %s is gone", self.folder)
        finally:
            os.close(in_use)


def start_embedded_server(folder: Path, timeout_seconds: float = START_TIMEOUT_SECONDS) -> EmbeddedServer:
    """Starts the server whose cluster lies in `folder`, or joins it where it runs, and waits until it takes queries.

    `folder` belongs to the server alone; it is made when missing (mode 0700) and keeps its data between runs. The
    handle's `url` is a libpq URL of the superuser `postgres`. Blocks: up to seconds for a new cluster, longer for
    recovery. Raises DatabaseUnavailable, with the end of the server's log, when it does not come up in time.
    """
    folder = folder.expanduser().resolve()
    try:
        account = cluster.account_of(folder)
        cluster.prepare_folder(folder, account)
        return _start_or_join(folder, account, timeout_seconds)
    except OSError as problem:
        raise DatabaseUnavailable(f"the database in {folder} does not start: {problem}") from problem


def _start_or_join(folder: Path, account: Account, timeout_seconds: float) -> EmbeddedServer:
    deadline = time.monotonic() + timeout_seconds
    with _exclusive(folder / "start.lock", account, timeout_seconds):
        in_use = _open_lock(folder / "in-use.lock", account)
        try:
            running = _join(folder / "data", deadline) or _start(folder, account, deadline)
            fcntl.flock(in_use, fcntl.LOCK_SH)
        except BaseException:
            os.close(in_use)
            raise
    return EmbeddedServer(folder, account, in_use, running.url)


@dataclass(frozen=True)
class Postmaster:
    """What postmaster.pid says of a server; the file may be half-written, or left by a server that was killed."""

    process: int
    data: str
    socket_folder: str
    status: str

    @property
    def url(self) -> str:
        """The superuser's libpq URL; the port is named because the variable PGPORT would change it."""
        return f"postgresql://postgres@/postgres?host={quote(self.socket_folder, safe='')}&port={PORT}"

    def listens(self) -> bool:
        """Whether the socket takes connections; that of a server that was just killed does so for a moment."""
        with socket.socket(socket.AF_UNIX) as probe:
            return self._connects(probe)

    def answers(self) -> bool:
        """Whether a server reads what it is sent: the question for encryption is answered before any login."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                if not self._connects(probe):
                    return False
                probe.sendall(ENCRYPTION_REQUEST)
                return probe.recv(1) in (b"S", b"N")
            except OSError:
                return False

    def _connects(self, probe: socket.socket) -> bool:
        probe.settimeout(5)
        try:
            probe.connect(f"{self.socket_folder}/.s.PGSQL.{PORT}")
        except TimeoutError:
            return True  # busy, but there
        except OSError:
            return False
        return True

    def lives(self) -> bool:
        """Whether that process is this server; its number may by now be a zombie's or another program's."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process, os.WNOHANG)  # in a container we may be process 1 and have inherited it
        return f" -D {self.data} " in _command_line(self.process)


def _read_postmaster(data: Path) -> Postmaster | None:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        process = int(lines[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    lines += [""] * (8 - len(lines))
    return Postmaster(process, lines[1], lines[4], lines[7].strip())


def _command_line(process: int) -> str:
    """The words of a process, a blank after each; empty when it does not run or is a zombie."""
    if Path("/proc/self/cmdline").exists():
        try:
            return os.fsdecode(Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" "))
        except OSError:
            return ""
    command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(process)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.replace("\n", " ")  # noqa: S603


def _join(data: Path, deadline: float) -> Postmaster | None:
    """The running server once it is ready; None, with the remains of a killed one removed, when there is none."""
    found = _read_postmaster(data)
    last = found
    # One that listens but is not among the processes runs in another container that has the same folder.
    while found is not None and found.data == str(data) and (found.lives() or found.listens()):
        if found.status == "ready" and found.answers():
            return found
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(f"the database in {data.parent} is not ready{_log_end(data.parent)}")
        if found.status == "stopping" or _is_lost(data):
            _stop_server(data)
        time.sleep(POLL_SECONDS)
        last, found = found, _read_postmaster(data)
    # PostgreSQL would refuse to start over this file where its process number is in use again.
    (data / "postmaster.pid").unlink(missing_ok=True)
    if last is not None and last.data == str(data):  # otherwise the folder was copied or moved with the file in it
        _remove_socket_folder(last.socket_folder)
    return None


def _is_lost(data: Path) -> bool:
    """Whether a server that says it is ready cannot be reached: its socket was swept out of the temporary folder."""
    give_up = time.monotonic() + 2
    while time.monotonic() < give_up:
        found = _read_postmaster(data)
        if found is None or found.status != "ready" or not found.lives() or found.listens():
            return False
        time.sleep(POLL_SECONDS)
    return True


def _start(folder: Path, account: Account, deadline: float) -> Postmaster:
    data = folder / "data"
    if not data.exists():
        logger.info("making the database in %s", folder)
        cluster.make_cluster(data, account)
    cluster.write_settings(data, account)
    _rotate_log(folder / "server.log")
    socket_folder = _choose_socket_folder(folder, account)
    retry_until = time.monotonic() + STOP_TIMEOUT_SECONDS
    while True:
        log_start = _size(folder / "server.log")
        running = _wait_until_ready(data, _launch(folder, account, socket_folder), deadline)
        if running is not None:
            return running
        said = _log_end(folder, log_start)
        if not any(words in said for words in STILL_ENDING) or time.monotonic() > min(retry_until, deadline):
            _remove_socket_folder(str(socket_folder))
            raise DatabaseUnavailable(f"the database in {folder} does not start{said}")
        time.sleep(0.5)


def _launch(folder: Path, account: Account, socket_folder: Path) -> int:
    """Runs `postgres` apart from this process, without waiting; returns its process number."""
    data = folder / "data"
    quoted = '"' + str(socket_folder).replace('"', '""') + '"'  # the setting is a list, parted by commas
    command = [str(cluster.programs(data, account) / "postgres"), "-D", str(data), "-p", str(PORT)]
    command += [f"--unix_socket_directories={quoted}"]
    done = account.run(["/bin/sh", "-c", DETACHED, str(folder / "server.log"), *command], data)
    if done.returncode != 0:
        raise DatabaseUnavailable(f"the database in {folder} does not start: {done.stderr.strip()[-2000:]}")
    return int(done.stdout)


def _wait_until_ready(data: Path, process: int, deadline: float) -> Postmaster | None:
    """The server once it takes queries; None when it ended instead."""
    launched = Postmaster(process, str(data), "", "")
    patience = time.monotonic() + 5
    while launched.lives():
        found = _read_postmaster(data)
        if found is not None and found.process == process and found.status == "ready":
            return found
        if time.monotonic() > patience:
            logger.warning("the database in %s is still recovering", data.parent)
            patience += 30
        if time.monotonic() > deadline:
            # It goes on recovering: the next start joins it there.
            raise DatabaseUnavailable(f"the database in {data.parent} is still recovering{_log_end(data.parent)}")
        time.sleep(POLL_SECONDS)
    return None


def _stop_server(data: Path) -> None:
    """Shuts the server down and waits; its files are whole even where it has to be cut short."""
    found = _read_postmaster(data)
    if found is None:
        return
    for shutdown in (signal.SIGINT, signal.SIGQUIT):  # "fast", then "immediate", whose work recovery redoes
        give_up = time.monotonic() + STOP_TIMEOUT_SECONDS
        with contextlib.suppress(ProcessLookupError):
            if found.lives():
                os.kill(found.process, shutdown)
        while found.lives() and time.monotonic() < give_up:
            time.sleep(POLL_SECONDS)
    if found.lives():
        logger.error("the database in %s (process %d) does not stop", data.parent, found.process)
    else:
        _remove_socket_folder(found.socket_folder)


def _choose_socket_folder(folder: Path, account: Account) -> Path:
    """The server's own folder, or where that path is too long for a socket, a new one in the temporary folder."""
    if len(os.fsencode(folder)) + len(f"/.s.PGSQL.{PORT}") <= SOCKET_PATH_BYTES:
        return folder
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > SOCKET_PATH_BYTES // 2:
        parent = "/tmp"  # noqa: S108 - mkdtemp makes a fresh folder there, open to its owner alone
    made = Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER_PREFIX, dir=parent)).resolve()
    account.owns(made)
    return made


def _remove_socket_folder(folder: str) -> None:
    """Removes a folder made for the socket alone, and never one that holds anything else."""
    if Path(folder).name.startswith(SOCKET_FOLDER_PREFIX):
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            Path(folder, name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def _open_lock(path: Path, account: Account) -> int:
    """Opens a lock file for reading, which is enough to lock it, and leaves it to the server's user."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    account.owns(path)
    return descriptor


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _exclusive(path: Path, account: Account, timeout_seconds: float = START_TIMEOUT_SECONDS) -> Iterator[None]:
    """Holds a lock that every process takes to start or to leave the server."""
    descriptor = _open_lock(path, account)
    try:
        give_up = time.monotonic() + timeout_seconds
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > give_up:
                raise DatabaseUnavailable(f"another process still starts or stops the database in {path.parent}")
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _rotate_log(path: Path) -> None:
    if _size(path) > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _log_end(folder: Path, start: int = 0) -> str:
    """The last lines that the server wrote, as the end of a message."""
    path = folder / "server.log"
    if not path.exists():
        return ""
    with path.open("rb") as log:
        log.seek(max(start, _size(path) - 2000))
        text = log.read().decode(errors="replace").strip()
    return f": {text}" if text else ""
