"""A running PostgreSQL as its postmaster.pid, its process and its socket tell of it; and how it is stopped."""

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

PORT = 5432  # names the socket's file; there is no TCP port
SOCKET_PATH_BYTES = 103  # sockaddr_un takes 107 on Linux, 103 on macOS
SOCKET_FOLDER_PREFIX = "face-identity-socket-"
STOP_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.02
ENCRYPTION_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)  # "SSLRequest" of the PostgreSQL protocol

logger = logging.getLogger(__name__)


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
        return f" -D {self.data} " in _command_line(self.process)


def read_postmaster(data: Path) -> Postmaster | None:
    """What the file in a cluster says; None where there is none or not even a process number in it."""
    try:
        lines = os.fsdecode((data / "postmaster.pid").read_bytes()).splitlines()
        process = int(lines[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    lines += [""] * (8 - len(lines))
    return Postmaster(process, lines[1], lines[4], lines[7].strip())


def _command_line(process: int) -> str:
    """The words of a process, a blank after each; empty when it does not run or is a zombie."""
    if not Path("/proc/self/cmdline").exists():
        command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(process)]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout.replace("\n", " ")  # noqa: S603
    give_up = time.monotonic() + 1
    while not (words := _proc_command_line(process)) and _is_no_zombie(process) and time.monotonic() < give_up:
        time.sleep(POLL_SECONDS / 10)  # it reads empty for a moment while the process becomes another program
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
    """Shuts the server down and waits; its files are whole even where it has to be cut short."""
    found = read_postmaster(data)
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
        remove_socket_folder(found.socket_folder)


def choose_socket_folder(folder: Path, account: Account) -> Path:
    """The server's own folder, or where that path is too long for a socket, a new one in the temporary folder."""
    if len(os.fsencode(folder)) + len(f"/.s.PGSQL.{PORT}") <= SOCKET_PATH_BYTES:
        return folder
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > SOCKET_PATH_BYTES // 2:
        parent = "/tmp"  # noqa: S108 - mkdtemp makes a fresh folder there, open to its owner alone
    made = Path(tempfile.mkdtemp(prefix=SOCKET_FOLDER_PREFIX, dir=parent)).resolve()
    account.owns(made)
    return made


def remove_socket_folder(folder: str) -> None:
    """Removes a folder made for the socket alone, and never one that holds anything else."""
    if Path(folder).name.startswith(SOCKET_FOLDER_PREFIX):
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            Path(folder, name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
