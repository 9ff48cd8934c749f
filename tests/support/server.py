"""The service for a client: the application in this process, and `face-identity serve` as a process.

Fixtures of the first kind are fast and share the run's database. The second kind has a data folder of its own, which
outlives the process, so that the process can be killed and started again.
"""

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from service.access.keys import create_key, create_operator_key
from service.access.names import SCOPES
from service.access.operator import operator_transaction
from service.app import create_app
from service.database.connection import Database
from service.database.session import tenant_session
from service.settings import Settings
from tests.support.folders import OpenFolder
from tests.support.waiting import GUARD_SECONDS, wait_until

ROOT_FOLDER = Path(__file__).parents[2]
PROGRAM = [str(Path(sys.executable).with_name("face-identity"))]

MakeClient = Callable[..., Awaitable[httpx.AsyncClient]]
"""`await make_client(tenant_id, scopes=None, galleries=None)`: a client with a fresh key of that tenant."""


@pytest.fixture(scope="session")
async def application(settings: Settings, database: Database) -> AsyncIterator[FastAPI]:
    """The running application on the run's database, with the fake encoder and the worker inside."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


def open_client(app: FastAPI, key: str | None = None) -> httpx.AsyncClient:
    """Open a client of the application in this process; an internal failure is an answer, as over the network."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {} if key is None else {"X-API-Key": key}
    return httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers, timeout=GUARD_SECONDS)


@pytest.fixture
async def anonymous(application: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with open_client(application) as client:
        yield client


@pytest.fixture
async def make_client(application: FastAPI, database: Database) -> AsyncIterator[MakeClient]:
    """Make clients whose keys have the scopes and galleries that a test names (None: all, `probe` too)."""
    made: list[httpx.AsyncClient] = []

    async def make(
        tenant_id: int, scopes: list[str] | None = None, galleries: list[str] | None = None
    ) -> httpx.AsyncClient:
        async with tenant_session(database.engine, tenant_id) as session:
            _, key = await create_key(session, "test", list(SCOPES) if scopes is None else scopes, galleries)
            await session.commit()
        made.append(open_client(application, key))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
async def operator_client(application: FastAPI, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the platform's operator."""
    async with operator_transaction(database.engine) as connection:
        _, key = await create_operator_key(connection, "test")
    async with open_client(application, key) as client:
        yield client


@pytest.fixture
async def client(make_client: MakeClient, tenant_id: int) -> httpx.AsyncClient:
    """A client of the fresh tenant whose key may do everything."""
    return await make_client(tenant_id)


@pytest.fixture
async def other_client(make_client: MakeClient, other_tenant_id: int) -> httpx.AsyncClient:
    """A client of another fresh tenant whose key may do everything."""
    return await make_client(other_tenant_id)


class ServerProcess:
    """`face-identity serve` on a free port of this machine; all its data are in `folder`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = reserve_port()
        self.environment = _environment(folder) | settings
        self.trust: ssl.SSLContext | None = None
        """Set if the server uses TLS: the context that checks its certificate."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address."""
        return f"{'http' if self.trust is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def number(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Return the log so far, over all starts."""
        return (self.folder / "serve.log").read_text()

    def command(self, *arguments: str) -> str:
        """Return the output of another `face-identity` command on the same data."""
        done = subprocess.run(
            [*PROGRAM, *arguments],
            check=False,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=GUARD_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def command_that_fails(self, *arguments: str) -> None:
        """Run another command, which must fail; its messages go to the log too."""
        with (self.folder / "serve.log").open("ab") as log:
            done = subprocess.run(
                [*PROGRAM, *arguments],
                check=False,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                timeout=GUARD_SECONDS,
            )
        assert done.returncode != 0

    def new_key(self, tenant: str = "acme") -> str:
        """Make a new tenant and return its first key."""
        made = msgspec.json.decode(self.command("tenants", "create", tenant, "--json"))
        return str(made["key"])

    def new_probe_key(self, tenant: str = "acme") -> str:
        """Make a new tenant and return a key with every scope, `probe` too. The server need not run."""
        self.new_key(tenant)
        scopes = [option for scope in SCOPES for option in ("--scope", scope)]
        made = msgspec.json.decode(self.command("keys", "create", "probes", "--tenant", tenant, *scopes, "--json"))
        return str(made["key"])

    def client(self, key: str | None = None) -> httpx.Client:
        """A client over the network."""
        headers = {} if key is None else {"X-API-Key": key}
        return httpx.Client(base_url=self.url, headers=headers, timeout=GUARD_SECONDS, verify=self.trust or True)

    def start(self) -> "ServerProcess":
        """Start the process and wait until it is ready."""
        with (self.folder / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, "serve", "--host", "127.0.0.1", "--port", str(self.port)],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready, lambda: self.log[-4000:])
        return self

    def stop(self) -> int:
        """Ask it to stop, as a terminal or a container does. Returns its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=GUARD_SECONDS)

    def kill(self, *, database: bool = False) -> None:
        """End it like a crash, together with its embedded database if requested."""
        assert self._process is not None
        if database:
            os.kill(int((self.folder / "data/postgres/data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        self._process.kill()
        self._process.wait(timeout=GUARD_SECONDS)

    def close(self) -> None:
        """Stop it if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.stop()

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log[-4000:]
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=GUARD_SECONDS, verify=self.trust or True)
            return answer.status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    """A server process that is not started yet, with the fake encoder and an embedded database.

    PostgreSQL runs as another user, so the data are not in pytest's own folder, which only this user may enter.
    """
    with OpenFolder() as folder:
        process = ServerProcess(Path(folder))
        yield process
        process.close()


def _environment(folder: Path) -> dict[str, str]:
    """The environment of this run, without settings of its own."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    return kept | {"DATA_DIR": str(folder / "data"), "ENCODER": "fake", "PYTHONPATH": str(ROOT_FOLDER)}


def reserve_port() -> int:
    """Return a port that no other program gets from the system until the tests end.

    A port that is merely found free and closed can be given away before the server binds it, and the test then talks to
    another server. Linux lets the server bind beside a socket that does not listen, if both set SO_REUSEADDR, so the
    socket stays open here. Other systems do not: there the port is only found free.
    """
    free = socket.socket()
    free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    free.bind(("127.0.0.1", 0))
    port = int(free.getsockname()[1])
    if sys.platform == "linux":
        free.detach()  # the descriptor stays open
    else:
        free.close()
    return port
