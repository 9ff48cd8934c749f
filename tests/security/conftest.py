"""One real server process for this folder, and one for slow clients: five connections, full logging, fake encoder."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
import pytest

from service.access.names import SCOPES
from tests.support.folders import OpenFolder
from tests.support.server import ServerProcess

CONNECTIONS = 5
PATIENCE_SECONDS = 3.0
"""Of the server that gives up slow clients. Every other test has a patient server: on a busy machine a test's own
client may be slow."""
WAIT_SECONDS = 300.0
"""How long a test waits for a state before it fails. No test asks how soon the state comes."""
SETTINGS = {
    "LOGGER_LEVEL": "DEBUG",
    "DATABASE_POOL_SIZE": str(CONNECTIONS),
    "CLIENT_PATIENCE_SECONDS": str(WAIT_SECONDS),
}
KIBIBYTE = 1024


@dataclass(frozen=True)
class RunningServer:
    """A started server and a key of its operator."""

    process: ServerProcess
    operator_key: str

    def new_tenant(self, name: str) -> str:
        """Make a new tenant and return its first key."""
        with self.process.client(self.operator_key) as operator:
            answer = operator.post("/v1/operator/tenants", json={"name": name})
            answer.raise_for_status()
            return str(answer.json()["key"])

    def new_probe_key(self, tenant: str) -> str:
        """Make a new tenant and return a key with every scope, `probe` too."""
        with self.process.client(self.new_tenant(tenant)) as owner:  # its key exports, so it may give a key that probes
            answer = owner.post("/v1/keys", json={"name": "probes", "scopes": list(SCOPES)})
            answer.raise_for_status()
            return str(answer.json()["key"])

    def client(self, tenant: str) -> httpx.Client:
        """A client of a new tenant."""
        return self.process.client(self.new_tenant(tenant))

    def resident_bytes(self) -> int:
        """Memory of the process, counted by the operating system."""
        return self._memory("VmRSS")

    def peak_bytes(self) -> int:
        """The peak memory of the process since `forget_peak`."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Reset the peak."""
        self._of_process("clear_refs").write_text("5")

    def _memory(self, name: str) -> int:
        lines = self._of_process("status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * KIBIBYTE

    def _of_process(self, file: str) -> Path:
        path = Path(f"/proc/{self.process.number}/{file}")
        if not path.exists():
            pytest.skip("left out: memory of a process is read from /proc, which is not here")
        return path


@pytest.fixture(scope="session")
def running() -> Iterator[RunningServer]:
    """The server process, which waits for slow clients."""
    with started() as server:
        yield server


@pytest.fixture(scope="module")
def impatient() -> Iterator[RunningServer]:
    """A server process that soon gives up slow clients."""
    with started(CLIENT_PATIENCE_SECONDS=str(PATIENCE_SECONDS)) as server:
        yield server


@contextlib.contextmanager
def started(**settings: str) -> Iterator[RunningServer]:
    """Run a server process with an operator's key."""
    with OpenFolder() as folder:
        process = ServerProcess(Path(folder), **SETTINGS | settings)
        try:
            made = msgspec.json.decode(process.command("operator", "keys", "create", "--json"))
            yield RunningServer(process.start(), made["key"])
        finally:
            process.close()
