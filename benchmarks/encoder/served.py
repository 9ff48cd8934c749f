"""A server with the pack and a gallery of the people in the photographs, and the processor time of its processes."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.server import ServerProcess

GALLERY = "staff"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Served:
    """A running server, a key of its tenant, and the seconds from start to ready."""

    server: ServerProcess
    key: str
    start_to_ready_seconds: float

    def resident_bytes(self) -> int:
        """Memory of the server's process, without the database's."""
        return int(Path(f"/proc/{self.server.number}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def loop_seconds(self) -> float:
        """Processor seconds of the thread with the event loop: all of HTTP, and the client's half of SQL."""
        return _processor_seconds(f"{self.server.number}/task/{self.server.number}")

    def server_seconds(self) -> float:
        """Processor seconds of the server's process."""
        return _processor_seconds(str(self.server.number))

    def database_seconds(self) -> float:
        """Processor seconds of the embedded PostgreSQL, without its processes that have ended."""
        pidfile = self.server.folder / "data/postgres/data/postmaster.pid"
        postmaster = pidfile.read_text().split()[0]
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return sum(_processor_seconds(child) for child in children)

    def metrics(self) -> dict[str, float]:
        """The values of /metrics, by metric name and labels."""
        lines = httpx.get(f"{self.server.url}/metrics", timeout=30).text.splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


@contextlib.contextmanager
def served(pack: Path, people: Path, **settings: str) -> Iterator[Served]:
    """Run the server with everybody of `people` (a folder for each person) enrolled, and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="face-identity-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user
        encoder = f"insightface:{pack.resolve()}"
        server = ServerProcess(Path(folder), ENCODER=encoder, LOGGER_LEVEL="WARNING", **settings)
        try:
            key = server.new_key()
            began = time.perf_counter()
            server.start()
            ready = time.perf_counter() - began
            with server.client(key) as client:
                _enroll(client, people)
            yield Served(server, key, round(ready, 2))
        finally:
            server.close()


def _enroll(client: httpx.Client, people: Path) -> None:
    client.post("/v1/galleries", json={"name": GALLERY}).raise_for_status()
    for folder in sorted(people.iterdir()):
        made = client.post(f"/v1/galleries/{GALLERY}/people", json={"name": folder.name}).raise_for_status().json()
        files = [("image", (path.name, path.read_bytes(), "image/jpeg")) for path in sorted(folder.glob("*.jpg"))]
        if files:
            client.post(f"/v1/galleries/{GALLERY}/people/{made['id']}/faces", files=files).raise_for_status()


def _processor_seconds(process: str) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
