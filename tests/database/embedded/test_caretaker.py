"""A server that is left running for the next command: it is stopped later, and never while a process uses it."""

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.database.embedded.server import start_embedded_server
from service.errors import DatabaseUnavailable
from tests.support.server_users import ask, runs, server_process
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="left out: there is no /proc")
LONG = 3600.0
MOMENT = 0.1


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a server. A server that a test leaves running is stopped by joining and leaving it."""
    folder = tmp_path / "postgres"
    yield folder
    with contextlib.suppress(DatabaseUnavailable):
        if (folder / "data" / "postmaster.pid").exists():
            start_embedded_server(folder).stop()
    wait_until(lambda: caretakers(folder) == [])


def caretakers(folder: Path) -> list[int]:
    """The processes that will stop the server of the folder."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if process.name.isdecimal() and b"service.database.embedded.caretaker" in words:
                found += [int(process.name)] if os.fsencode(folder) in words and words[0] != b"/bin/sh" else []
    return found


def is_waiting(folder: Path) -> bool:
    """Whether a caretaker holds its lock."""
    with (folder / "caretaker.lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def use(folder: Path, linger_seconds: float) -> int:
    """Use the server as a command does. Returns its process number."""
    with start_embedded_server(folder, linger_seconds=linger_seconds) as server:
        assert ask(server.url, "SELECT 1") == 1
        return server_process(folder)


def test_the_next_command_finds_the_server_running_and_the_last_one_may_stop_it(folder: Path) -> None:
    first = use(folder, LONG)
    assert runs(first)
    wait_until(lambda: is_waiting(folder))
    assert use(folder, LONG) == first
    assert len(caretakers(folder)) == 1
    assert use(folder, 0) == first
    assert not runs(first)
    wait_until(lambda: caretakers(folder) == [])


def test_the_caretaker_stops_an_unused_server_when_its_time_has_come(folder: Path) -> None:
    process = use(folder, MOMENT)
    wait_until(lambda: not runs(process))
    wait_until(lambda: caretakers(folder) == [])
    assert use(folder, 0) != process


def test_the_caretaker_does_not_stop_a_server_that_is_used(folder: Path) -> None:
    process = use(folder, MOMENT)
    with start_embedded_server(folder) as server:
        wait_until(lambda: caretakers(folder) == [])
        process = server_process(folder)
        assert ask(server.url, "SELECT 1") == 1
    assert not runs(process)


def test_a_caretaker_that_is_ended_stops_the_server_at_once(folder: Path) -> None:
    process = use(folder, LONG)
    wait_until(lambda: is_waiting(folder))
    os.kill(caretakers(folder)[0], signal.SIGTERM)
    wait_until(lambda: not runs(process))


def test_a_caretaker_that_is_killed_is_replaced_by_the_next_command(folder: Path) -> None:
    process = use(folder, LONG)
    wait_until(lambda: is_waiting(folder))
    (killed,) = caretakers(folder)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not is_waiting(folder))
    assert runs(process)
    assert use(folder, LONG) == process
    wait_until(lambda: is_waiting(folder))
    assert caretakers(folder) != [killed]
