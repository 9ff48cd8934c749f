"""A real PgBouncer in transaction mode between the service and the server of the tests."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from service.database.types import SERVICE_ROLE
from tests.support.waiting import GUARD_SECONDS, wait_until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
StartPooler = Callable[[URL, int], URL]
"""`start_pooler(server, connections)`: the address of a pooler before that server, for the service role."""


def _configuration(server: URL, connections: int, port: int, folder: Path) -> str:
    host, server_port = server.query.get("host", server.host), server.query.get("port", server.port or 5432)
    password = f" password={server.password}" if server.password else ""
    return f"""
[databases]
* = host={host} port={server_port}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {connections}
logfile = {folder}/pgbouncer.log
"""


@pytest.fixture
def start_pooler() -> Iterator[StartPooler]:
    """Start poolers on loopback. PgBouncer refuses to run as root, so it runs as the owner of the server's socket."""
    if PROGRAM is None:
        pytest.skip("left out: pgbouncer is not installed")
    program = PROGRAM
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="pooler-") as name:
        folder = Path(name)

        def start(server: URL, connections: int) -> URL:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = int(free.getsockname()[1])
            (folder / "users").write_text(f'"{SERVICE_ROLE}" ""\n"postgres" ""\n')
            (folder / "pgbouncer.ini").write_text(_configuration(server, connections, port, folder))
            command = [program, "-q", str(folder / "pgbouncer.ini")]
            socket_folder = server.query.get("host")
            if os.geteuid() == 0 and isinstance(socket_folder, str) and socket_folder.startswith("/"):
                owner = Path(socket_folder).stat()
                for path in (folder, *folder.iterdir()):
                    os.chown(path, owner.st_uid, owner.st_gid)
                command += ["-u", pwd.getpwuid(owner.st_uid).pw_name]
            elif os.geteuid() == 0:
                pytest.skip("left out: PgBouncer refuses to run as root")
            started.append(subprocess.Popen(command, cwd=folder))
            wait_until(lambda: _accepts(port), (folder / "pgbouncer.log").read_text)
            return URL.create("postgresql+psycopg", SERVICE_ROLE, None, "127.0.0.1", port, server.database)

        yield start
        for process in started:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=GUARD_SECONDS)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
