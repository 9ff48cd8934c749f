"""Other processes that use the embedded server, and questions to them and to the server."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests.support.waiting import GUARD_SECONDS

ROOT_FOLDER = Path(__file__).parents[2]
# Starts or joins the server, prints its URL, and ends normally (or is killed) on request. It never calls stop().
# Ctrl-C ends it also if the tests run in the background, where a shell ignores the signal.
USER_PROGRAM = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from service.database.embedded.server import start_embedded_server
server = start_embedded_server(Path(sys.argv[1]))
print(server.url, flush=True)
sys.stdin.readline()
"""


class UserProcess:
    """Another process that uses the server, as the same user or (for root) as a user given by number."""

    def __init__(self, folder: Path, user: int | None = None, python: Sequence[str] = (sys.executable,)) -> None:
        self.process = subprocess.Popen(
            [*python, "-c", USER_PROGRAM, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT_FOLDER,
            env=os.environ | {"PYTHONPATH": python_path()},
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        self._url = ""

    @property
    def url(self) -> str:
        """Wait until the process has the server."""
        assert self.process.stdout is not None
        self._url = self._url or self.process.stdout.readline().strip()
        return self._url

    def leave(self) -> None:
        """Let the process end normally."""
        self.process.communicate("\n", timeout=GUARD_SECONDS)
        assert self.process.returncode == 0

    def kill(self) -> None:
        """End the process like a crash."""
        self.process.kill()
        self.process.communicate(timeout=GUARD_SECONDS)


def python_path() -> str:
    """Return the package path of this interpreter, for another interpreter of the same version."""
    return os.pathsep.join([str(ROOT_FOLDER), *(path for path in sys.path if path.endswith("site-packages"))])


def server_process(folder: Path) -> int:
    """Return the process id of the server's main process; 0 if there is none."""
    path = folder / "data" / "postmaster.pid"
    return int(path.read_text().splitlines()[0]) if path.exists() else 0


def runs(process: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    command = ["ps", "-o", "stat=", "-p", str(process)]
    state = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    return state != "" and not state.startswith("Z")


def ask(url: str, query: str) -> object:
    """Return the first value of the first row."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None
