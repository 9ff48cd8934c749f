"""An embedded database that is killed, or cannot start for a while, comes back without a person's help."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.folders import OpenFolder
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until


@pytest.fixture(params=["short path", "a path that is too long for a socket " + "x" * 80])
def serving(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A running server with a database of its own."""
    with OpenFolder() as folder:
        (Path(folder) / request.param).mkdir()
        server = ServerProcess(Path(folder) / request.param)
        yield server.start()
        server.close()


def kill_database(server: ServerProcess) -> None:
    pid_file = server.folder / "data/postgres/data/postmaster.pid"
    os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)


def is_ready(server: ServerProcess) -> bool:
    with server.client() as client:
        return client.get("/readyz").status_code == 200


def test_a_killed_database_is_started_again_and_nothing_is_lost(serving: ServerProcess) -> None:
    key = serving.new_key()
    with serving.client(key) as client:
        assert client.post("/v1/galleries", json={"name": "staff"}).status_code == 201
        for starts in (1, 2):
            kill_database(serving)
            # Its connections answer for a moment longer, so an answer does not show that the server is a new one.
            wait_until(lambda: serving.log.count("the embedded database runs again") == starts, lambda: serving.log)  # noqa: B023
            wait_until(lambda: client.get("/v1/galleries/staff").status_code == 200, lambda: serving.log)
            wait_until(lambda: is_ready(serving), lambda: serving.log)
        assert client.post("/v1/galleries", json={"name": "visitors"}).status_code == 201
    assert serving.log.count("the embedded database has ended by itself") == 2
    assert serving.stop() == 0


@pytest.mark.parametrize("serving", ["plain"], indirect=True)
def test_while_the_database_cannot_start_the_answers_say_so(serving: ServerProcess) -> None:
    settings = serving.folder / "data/postgres/data/postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text(before + "shared_buffers = 'nonsense'\n")
    kill_database(serving)
    with serving.client() as client:
        wait_until(lambda: "does not start" in client.get("/readyz").text, lambda: serving.log)
        answer = client.get("/readyz")
        assert (answer.status_code, "postgres/data" in answer.text) == (503, False)
        assert client.get("/healthz").status_code == 200
    settings.write_text(before)
    wait_until(lambda: is_ready(serving), lambda: serving.log)
