"""`serve`, `work` and `migrate` as separate processes that share one embedded database."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.test_command_line import PROGRAM
from tests.support.server import ServerProcess
from tests.support.waiting import GUARD_SECONDS, wait_until

DATASET = b'[["Ada","0.1,0.2,0.3,-0.25"],["Bob","-1.5,2.29,0.75,0.5"]]'


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that runs no jobs, so that jobs wait for `face-identity work`."""
    process = ServerProcess(tmp_path, WORKER_IN_SERVER="false")
    yield process
    process.close()


def test_a_job_is_queued_until_the_worker_process_runs_it(worker: ServerProcess) -> None:
    server = worker.start()
    with server.client(server.new_key()) as client:
        assert client.post("/v1/galleries", json={"name": "old", "embedding_space": "external:a:4"}).status_code == 201
        path = f"/v1/jobs/{client.post('/v1/galleries/old/import', content=DATASET).json()['job']}"
        assert client.get(path).json()["status"] == "queued"
        worker_start = datetime.now(UTC)
        with subprocess.Popen(
            [PROGRAM, "work"], env=server.environment, cwd=server.folder, stderr=subprocess.DEVNULL
        ) as work:
            wait_until(lambda: client.get(path).json()["status"] not in {"queued", "running"})
            work.send_signal(signal.SIGTERM)
            assert work.wait(timeout=GUARD_SECONDS) == 0
        job = client.get(path).json()
    assert datetime.fromisoformat(job["started_at"]) > worker_start
    assert (job["status"], job["result"]["faces"]) == ("succeeded", 2)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to see which files a process reads")
def test_a_terminated_import_leaves_no_data_and_no_running_server(tmp_path: Path) -> None:
    """The import ends while it reads the file: it rolls back, and stops the embedded server as its last user."""
    server = ServerProcess(tmp_path)
    (tmp_path / "large.ndjson").write_text('{"person": "Ada", "embedding": [0.25, 0.5, 1, 2]}\n' * 1_000_000)
    command = [PROGRAM, "import", "large.ndjson", "--embedding-space", "external:a:4"]
    with subprocess.Popen(command, env=server.environment, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        database_is_running = tmp_path / "data/postgres/data/postmaster.pid"

        def reads_the_file() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read()
            return database_is_running.exists() and has_open(process.pid, "large.ndjson")

        wait_until(reads_the_file)
        process.send_signal(signal.SIGTERM)
        _, error_output = process.communicate(timeout=GUARD_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in error_output
    assert not database_is_running.exists()
    assert json.loads(server.command("galleries", "list", "--json"))["items"] == []


def has_open(process_id: int, file_name: str) -> bool:
    """Return whether a process has opened a file, according to /proc of Linux."""
    for descriptor in Path(f"/proc/{process_id}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # this descriptor was closed meanwhile; the others still count
            if os.readlink(descriptor).endswith(file_name):
                return True
    return False


def test_migrate_prints_the_state_of_the_database(tmp_path: Path) -> None:
    environment = ServerProcess(tmp_path).environment
    for _ in range(2):
        done = subprocess.run(
            [PROGRAM, "migrate", "--json"], check=False, capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout).keys() == {"revision", "postgresql", "pgvector"}
    assert not (tmp_path / "data/postgres/data/postmaster.pid").exists()
