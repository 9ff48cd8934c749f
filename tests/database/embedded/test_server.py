"""The embedded server for its users: processes share it, leave it, are killed, and come back."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from service.database.embedded.cluster import SETTINGS_FILE, tuning
from service.database.embedded.postmaster import _command_line
from service.database.embedded.server import EmbeddedServer, start_embedded_server
from service.errors import DatabaseUnavailable
from tests.support.server_users import UserProcess, ask, runs, server_process
from tests.support.waiting import GUARD_SECONDS, wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a server. A server that a test leaves running is stopped by joining and leaving it."""
    folder = tmp_path / "postgres"
    yield folder
    with contextlib.suppress(DatabaseUnavailable):
        if (folder / "data" / "postmaster.pid").exists():
            start_embedded_server(folder).stop()


def write_note(server: EmbeddedServer) -> None:
    ask(server.url, "CREATE TABLE note AS SELECT 'kept' AS text")


def test_a_new_server_has_pgvector_and_takes_both_kinds_of_client(folder: Path) -> None:
    with start_embedded_server(folder) as server:
        ask(server.url, "CREATE EXTENSION vector")
        assert ask(server.url, "SELECT '[3,4]'::vector <-> '[0,0]'") == 5.0
        engine = sqlalchemy.create_engine(server.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            assert connection.scalar(sqlalchemy.text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
        engine.dispose()


def test_data_outlives_the_server(folder: Path) -> None:
    with start_embedded_server(folder) as server:
        write_note(server)
        process = server_process(folder)
    assert not runs(process)
    with start_embedded_server(folder) as server:
        assert ask(server.url, "SELECT text FROM note") == "kept"


def test_stopping_twice_counts_once(folder: Path) -> None:
    with start_embedded_server(folder) as other:
        server = start_embedded_server(folder)
        server.stop()
        server.stop()
        assert ask(other.url, "SELECT 1") == 1


def test_the_last_of_two_processes_stops_the_server(folder: Path) -> None:
    first, second = UserProcess(folder), UserProcess(folder)
    assert first.url == second.url
    process = server_process(folder)
    first.leave()
    assert runs(process)
    assert ask(second.url, "SELECT 1") == 1
    second.leave()
    assert not runs(process)
    assert server_process(folder) == 0


def test_processes_that_start_together_share_one_server(folder: Path) -> None:
    users = [UserProcess(folder) for _ in range(4)]
    started = {ask(user.url, "SELECT pg_postmaster_start_time()::text") for user in users}
    assert len(started) == 1
    process = server_process(folder)
    for user in users:
        user.leave()
    assert not runs(process)


def test_a_server_left_by_a_killed_process_is_adopted_and_then_stopped(folder: Path) -> None:
    user = UserProcess(folder)
    assert ask(user.url, "SELECT 1") == 1
    process = server_process(folder)
    user.kill()
    assert runs(process)
    with start_embedded_server(folder) as server:
        assert server_process(folder) == process
        assert ask(server.url, "SELECT 1") == 1
    assert not runs(process)


def test_a_killed_database_starts_again_beside_a_process_that_still_holds_it(folder: Path) -> None:
    with start_embedded_server(folder) as server:
        write_note(server)
        os.kill(server_process(folder), signal.SIGKILL)
        user = UserProcess(folder)
        assert ask(user.url, "SELECT text FROM note") == "kept"
        user.leave()
        assert ask(server.url, "SELECT text FROM note") == "kept"
        process = server_process(folder)
    assert not runs(process)


def test_everything_killed_at_once_starts_again_with_what_was_committed(folder: Path) -> None:
    user = UserProcess(folder)
    ask(user.url, "CREATE TABLE note AS SELECT 'kept' AS text")
    with contextlib.closing(psycopg.connect(user.url)):
        os.kill(server_process(folder), signal.SIGKILL)
        user.kill()
        with start_embedded_server(folder) as server:
            assert ask(server.url, "SELECT text FROM note") == "kept"


def test_a_statement_that_outlives_a_killed_database_does_not_spoil_the_next_start(folder: Path) -> None:
    server = start_embedded_server(folder)
    write_note(server)
    # It computes for hours, and does not notice at once that the main process of the server is gone.
    query = "SELECT count(*) FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b"
    program = f"import psycopg; psycopg.connect({server.url!r}).execute({query!r})"
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT count(*) FROM gen%'"
    errors = folder.parent / "client.log"
    with errors.open("w") as log, subprocess.Popen([sys.executable, "-c", program], stderr=log) as client:
        wait_until(lambda: ask(server.url, running) or client.poll() is not None)
        assert client.poll() is None, errors.read_text()
        os.kill(server_process(folder), signal.SIGKILL)
        with start_embedded_server(folder) as again:
            assert ask(again.url, "SELECT text FROM note") == "kept"
            client.wait(GUARD_SECONDS)
            server.stop()


@pytest.mark.parametrize("process", [os.getpid(), 2**22 + 1], ids=["of another program", "of no program"])
def test_a_stale_process_number_does_not_stop_a_start(folder: Path, process: int) -> None:
    start_embedded_server(folder).stop()
    lines = [str(process), str(folder / "data"), "1700000000", "5432", str(folder), "", "  1  2", "ready   "]
    (folder / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    with start_embedded_server(folder) as server:
        assert server_process(folder) != process
        assert ask(server.url, "SELECT 1") == 1


@pytest.mark.parametrize("text", ["", "12", "77777\n/elsewhere\n", "no number"])
def test_a_half_written_process_file_does_not_stop_a_start(folder: Path, text: str) -> None:
    start_embedded_server(folder).stop()
    (folder / "data" / "postmaster.pid").write_text(text)
    with start_embedded_server(folder) as server:
        assert ask(server.url, "SELECT 1") == 1


def test_an_interrupted_initdb_is_deleted_and_repeated(folder: Path) -> None:
    remains = folder / "new-interrupted"
    remains.mkdir(parents=True)
    (remains / "PG_VERSION").write_text("18")
    with start_embedded_server(folder) as server:
        assert ask(server.url, "SELECT 1") == 1
    assert not remains.exists()


def test_a_copy_of_a_running_folder_is_a_server_of_its_own(folder: Path, tmp_path: Path) -> None:
    with start_embedded_server(folder) as server:
        ask(server.url, "CHECKPOINT")
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".s.*"))
        for path in (copy, *copy.rglob("*")):
            shutil.chown(path, folder.stat().st_uid, folder.stat().st_gid)
        with start_embedded_server(copy) as other:
            assert other.url != server.url
            assert ask(other.url, "SHOW data_directory") == str(copy / "data")
        assert ask(server.url, "SHOW data_directory") == str(folder / "data")


@pytest.mark.parametrize("name", ["with blanks", "comma, \"quote\" and 'quote'", "100% ünïcode & ? # @"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    with start_embedded_server(tmp_path / name / "postgres") as server:
        assert ask(server.url, "SELECT 1") == 1
        engine = sqlalchemy.create_engine(server.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            assert connection.scalar(sqlalchemy.text("SELECT 1")) == 1
        engine.dispose()


def test_a_path_too_long_for_a_socket_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("longer" * 20) / "postgres"
    with start_embedded_server(folder) as server:
        user = UserProcess(folder)
        assert user.url == server.url
        user.leave()
        socket_folder = Path((folder / "data" / "postmaster.pid").read_text().splitlines()[4])
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
        assert ask(server.url, "SELECT 1") == 1
    assert not socket_folder.exists()


def test_a_socket_deleted_from_the_temporary_folder_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / "postgres"
    user = UserProcess(folder)
    assert ask(user.url, "SELECT 1") == 1
    shutil.rmtree(Path((folder / "data" / "postmaster.pid").read_text().splitlines()[4]))
    with start_embedded_server(folder) as server:
        assert ask(server.url, "SELECT 1") == 1
        user.leave()
        assert ask(server.url, "SELECT 1") == 1


def test_a_forked_child_neither_stops_the_server_nor_keeps_it(folder: Path) -> None:
    server = start_embedded_server(folder)
    process = server_process(folder)
    context = multiprocessing.get_context("fork")
    child = context.Process(target=server.stop)
    child.start()
    child.join(GUARD_SECONDS)
    assert runs(process)
    sleeper = context.Process(target=time.sleep, args=(GUARD_SECONDS,))
    sleeper.start()
    server.stop()
    assert not runs(process)
    sleeper.kill()
    sleeper.join()


def test_an_environment_made_for_another_server_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGPORT": "6000",
        "PGDATA": "/nowhere",
        "LC_ALL": "xx_XX.UTF-8",
        "PGOPTIONS": "-c jit=on",
    }.items():
        monkeypatch.setenv(name, value)
    with start_embedded_server(folder) as server:
        monkeypatch.delenv("PGOPTIONS")
        assert ask(server.url, "SHOW jit") == "off"
        assert ask(server.url, "SHOW server_encoding") == "UTF8"


def test_a_database_of_another_version_is_refused_with_its_version(folder: Path) -> None:
    start_embedded_server(folder).stop()
    (folder / "data" / "PG_VERSION").write_text("99\n")
    with pytest.raises(DatabaseUnavailable, match="belongs to PostgreSQL 99"):
        start_embedded_server(folder)


def test_the_error_about_a_failed_start_has_the_reason(folder: Path) -> None:
    start_embedded_server(folder).stop()
    with (folder / "data" / SETTINGS_FILE).open("a") as settings:
        settings.write("shared_buffers = many\n")
    with pytest.raises(DatabaseUnavailable, match='invalid value for parameter "shared_buffers"'):
        start_embedded_server(folder)


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnavailable, match=r"file.*DATA_DIR"):
        start_embedded_server(tmp_path / "file")


def test_settings_are_written_once_and_edits_are_kept(folder: Path) -> None:
    with start_embedded_server(folder) as server:
        names = ("jit", "fsync", "synchronous_commit", "timezone")
        assert {name: ask(server.url, f"SHOW {name}") for name in names} == {
            "jit": "off",
            "fsync": "on",
            "synchronous_commit": "on",
            "timezone": "UTC",
        }
        assert ask(server.url, "SHOW listen_addresses") == ""
    path = folder / "data" / SETTINGS_FILE
    path.write_text(path.read_text().replace("work_mem = 16MB", "work_mem = 7MB"))
    with start_embedded_server(folder) as server:
        assert ask(server.url, "SHOW work_mem") == "7MB"


def test_tuning_follows_the_machine() -> None:
    small = tuning(memory=512 * 2**20, cores=2, shared_memory=64 * 2**20)
    assert "shared_buffers = 128MB\n" in small
    assert "max_parallel_workers_per_gather = 0\n" in small
    assert "dynamic_shared_memory_type = mmap\n" in small
    large = tuning(memory=64 * 2**30, cores=16, shared_memory=32 * 2**30)
    assert "shared_buffers = 1024MB\n" in large
    assert "max_parallel_workers_per_gather = 2\n" in large


def test_failed_statements_leave_no_embedding_in_the_log(folder: Path) -> None:
    with start_embedded_server(folder) as server, psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE face (name text UNIQUE, embedding real[] CHECK (cardinality(embedding) = 2))")
        connection.execute("INSERT INTO face VALUES ('Ada Lovelace', '{0.25, 0.5}')")
        for name, embedding in (("Ada Lovelace", [0.25, 0.5]), ("Grace", [0.123456789]), ("Joan", "[0.98765")):
            with pytest.raises(psycopg.Error):
                connection.execute("INSERT INTO face VALUES (%s, %s)", (name, embedding))
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT '{0.55555,x}'::real[]")
    log = (folder / "server.log").read_text()
    assert "ready to accept connections" in log
    for secret in ("Ada", "0.25", "0.1234", "Grace", "0.98765", "0.55555"):
        assert secret not in log


def test_the_folder_is_open_to_its_user_alone(folder: Path) -> None:
    with start_embedded_server(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700


def recover_slowly(folder: Path) -> None:
    """Let the next start recover for more than ten seconds, in which the server refuses queries."""
    with (folder / "data" / SETTINGS_FILE).open("a") as settings:
        settings.write("restore_command = 'sleep 6; false'\n")
    signal_file = folder / "data" / "recovery.signal"
    signal_file.touch()
    shutil.chown(signal_file, folder.stat().st_uid, folder.stat().st_gid)


@pytest.mark.long
def test_a_start_waits_until_a_recovering_server_answers(folder: Path) -> None:
    start_embedded_server(folder).stop()
    recover_slowly(folder)
    with pytest.raises(DatabaseUnavailable, match="still recovering"):
        start_embedded_server(folder, timeout_seconds=1)
    with start_embedded_server(folder) as server:
        assert ask(server.url, "SELECT 1") == 1


@pytest.mark.long
def test_interrupting_a_start_leaves_no_server(folder: Path) -> None:
    start_embedded_server(folder).stop()
    recover_slowly(folder)
    user = UserProcess(folder)
    wait_until(lambda: server_process(folder))
    process = server_process(folder)
    user.process.send_signal(signal.SIGINT)
    user.process.communicate(timeout=GUARD_SECONDS)
    assert not runs(process)


def test_a_process_that_was_just_forked_counts_as_running() -> None:
    """Its command line is empty while it becomes another program; of 400 starts about one was read at that moment."""
    for _ in range(400):
        child = subprocess.Popen(["/bin/sleep", "5"])
        words = _command_line(child.pid)
        child.kill()
        child.wait()
        assert words
        assert not _command_line(child.pid)
