"""`serve`, `work` and `migrate` as processes of their own, sharing one embedded database."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_command_line import PROGRAM
from tests.support.server import ServerProcess

DATASET = b'[["Ada","0.1,0.2,0.3,-0.25"],["Bob","-1.5,2.29,0.75,0.5"]]'


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that runs no jobs itself, and so waits for `face-identity work`."""
    process = ServerProcess(tmp_path, WORKER_IN_SERVER="false")
    yield process
    process.close()


def test_a_job_waits_for_the_worker_process(worker: ServerProcess) -> None:
    server = worker.start()
    client = server.client(server.new_key())
    assert client.post("/v1/galleries", json={"name": "old", "embedding_space": "external:a:4"}).status_code == 201
    job = client.post("/v1/galleries/old/import", content=DATASET).json()["job"]
    time.sleep(1)
    assert client.get(f"/v1/jobs/{job}").json()["status"] == "queued"
    with subprocess.Popen(
        [PROGRAM, "work"], env=server.environment, cwd=server.folder, stderr=subprocess.DEVNULL
    ) as work:
        deadline = time.monotonic() + 30
        while (done := client.get(f"/v1/jobs/{job}").json())["status"] != "succeeded":
            assert time.monotonic() < deadline, done
            time.sleep(0.2)
        work.send_signal(signal.SIGTERM)
        assert work.wait(timeout=30) == 0
    assert done["result"]["faces"] == 2


def test_an_import_that_is_told_to_end_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """It unwinds: nothing of the file is there, and as the last user of the embedded server it stops it."""
    server = ServerProcess(tmp_path)
    (tmp_path / "large.ndjson").write_text('{"person": "Ada", "embedding": [0.25, 0.5, 1, 2]}\n' * 300_000)
    command = [PROGRAM, "import", "large.ndjson", "--embedding-space", "external:a:4"]
    with subprocess.Popen(command, env=server.environment, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        running = tmp_path / "data/postgres/data/postmaster.pid"
        deadline = time.monotonic() + 30
        while not running.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in said
    assert not running.exists()
    assert json.loads(server.command("galleries", "show", "default", "--json"))["people"] == 0


def test_migrate_says_where_the_database_stands(tmp_path: Path) -> None:
    environment = ServerProcess(tmp_path).environment
    for _ in range(2):
        done = subprocess.run(
            [PROGRAM, "migrate", "--json"], check=False, capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout).keys() == {"revision", "postgresql", "pgvector"}
    assert not (tmp_path / "data/postgres/data/postmaster.pid").exists()
