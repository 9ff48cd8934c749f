"""Reads the state of a PostgreSQL server from its postmaster.pid, process and socket, and stops the server."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from service.database.embedded.cluster import Account

PORT = 5432  # part of the name of the socket; there is no TCP port
SOCKET_PATH_BYTES = 103  # sockaddr_un holds 107 on Linux, 103 on macOS
SOCKET_FOLDER_PREFIX = "face-identity-socket-"
STOP_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.02
ENCRYPTION_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)  # "SSLRequest" of the PostgreSQL protocol

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Postmaster:
    """The content of postmaster.pid. The file may be half-written, or left behind by a server that was killed."""

    process: int
    data: str
    socket_folder: str
    status: str

    @property
    def url(self) -> str:
        """The libpq URL of the superuser. It names the port, which the variable PGPORT would change otherwise."""
        return f"postgresql://postgres@/postgres?host={quote(self.socket_folder, safe='')}&port={PORT}"

    def listens(self) -> bool:
        """Whether the socket accepts connections. After a server is killed, its socket still does for a moment."""
        with socket.socket(socket.AF_UNIX) as probe:
            return self._connects(probe)

    def answers(self) -> bool:
        """Whether a server answers on the socket. It answers a request for encryption before the login."""
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
            return True  # the server is busy
        except OSError:
            return False
        return True

    def lives(self) -> bool:
        """Whether the process is this server. Its number may belong to a zombie or to another program by now."""
        return f" -D {self.data} " in _command_line(self.process)


def read_postmaster(data: Path) -> Postmaster | None:
    """Read postmaster.pid of a cluster. Returns None if it is missing or has no process number yet."""
    try:
        lines = os.fsdecode((data / "postmaster.pid").read_bytes()).splitlines()
        process = int(lines[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    lines += [""] * (8 - len(lines))
    return Postmaster(process, lines[1], lines[4], lines[7].strip())


def _command_line(process: int) -> str:
    """The command line of a process, a blank after each word. Empty if the process does not run or is a zombie."""
    if not Path("/proc/self/cmdline").exists():
        command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(process)]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout.replace("\n", " ")  # noqa: S603
    give_up = time.monotonic() + 1
    while not (words := _proc_command_line(process)) and _is_no_zombie(process) and time.monotonic() < give_up:
        time.sleep(POLL_SECONDS / 10)  # empty for a moment during exec
    return words


def _proc_command_line(process: int) -> str:
    try:
        return os.fsdecode(Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" "))
    except OSError:
        return ""


def _is_no_zombie(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in (b"Z", b"X")


def stop_server(data: Path) -> None:
    """Stop the server and wait. Its files are consistent even if a fast shutdown takes too long and it is cut short."""
    server = read_postmaster(data)
    if server is None:
        return
    for shutdown in (signal.SIGINT, signal.SIGQUIT):  # "fast", then "immediate", after which the next start recovers
        give_up = time.monotonic() + STOP_TIMEOUT_SECONDS
        with contextlib.suppress(ProcessLookupError):
            if server.lives():
                os.kill(server.process, shutdown)
        while server.lives() and time.monotonic() < give_up:
            time.sleep(POLL_SECONDS)
    if server.lives():
        logger.error("the database in %s (process %d) does not stop", data.parent, server.process)
    else:
        remove_socket_folder(server.socket_folder)


def end_orphans(data: Path) -> None:
    """End the server processes of a cluster whose main process was killed. The caller knows that no server runs.

    A process that computes does not notice that the main process is gone. It keeps the old shared memory, and
    PostgreSQL does not start a server beside it: a long query kept the database away for hours. SIGQUIT is the signal
    that the main process would send after a crash; nothing that these processes do can be committed any more. Only
    Linux tells the folder of a process; elsewhere the start waits for them.
    """
    location = data.resolve()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            folder, title = (process / "cwd").readlink(), (process / "cmdline").read_bytes()
            parent = int((process / "stat").read_bytes().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended, or belongs to somebody else
        if folder == location and title.startswith(b"postgres: ") and f" -D {data} " not in _proc_command_line(parent):
            logger.warning("ended a process of the database that was killed in %s", data.parent)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(process.name), signal.SIGQUIT)


def choose_socket_folder(folder: Path, account: Account) -> Path:
    """The folder for the socket: the server's own, or a temporary folder if its path cannot be used."""
    # libpq separates the hosts of a URL at commas, and a comma cannot be escaped.
    if "," not in str(folder) and len(os.fsencode(folder)) + len(f"/.s.PGSQL.{PORT}") <= SOCKET_PATH_BYTES:
        return folder
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > SOCKET_PATH_BYTES // 2:
        parent = "/tmp"  # noqa: S108 - mkdtemp creates a new folder there that only its owner can enter
    made = Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER_PREFIX, dir=parent)).resolve()
    account.take_over(made)
    return made


def make_socket_folder(folder: Path, account: Account) -> None:
    """Make a temporary folder of `choose_socket_folder` again, which was removed with the server that ended."""
    folder.mkdir(mode=0o700)
    account.take_over(folder)


def remove_socket_folder(folder: str) -> None:
    """Delete a temporary folder of `choose_socket_folder`. Never deletes a folder that holds anything else."""
    if Path(folder).name.startswith(SOCKET_FOLDER_PREFIX):
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            Path(folder, name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
