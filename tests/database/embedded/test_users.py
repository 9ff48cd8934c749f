"""The embedded server as root and as a plain user: each has a server, and strangers stay out."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.database.embedded.server import start_embedded_server
from tests.support.server_users import ROOT_FOLDER, UserProcess, ask, python_path, runs, server_process

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="left out: switching users needs root")


@pytest.fixture(scope="module")
def plain_user() -> int:
    """The user id of a user who is not root."""
    return pwd.getpwnam("nobody").pw_uid


def run_as(user: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": python_path()}
    return subprocess.run(
        command,
        check=False,
        user=user,
        group=user,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd=ROOT_FOLDER,
        env=environment,
    )


@pytest.fixture(scope="module")
def plain_python(plain_user: int) -> str:
    """An interpreter that the plain user can run; this interpreter may be in root's own folders."""
    major, minor = sys.version_info[:2]
    for candidate in (sys.executable, f"/usr/bin/python{major}.{minor}"):
        try:
            if (
                run_as(plain_user, [candidate, "-c", "import psycopg, service.database.embedded.server"]).returncode
                == 0
            ):
                return candidate
        except OSError:
            continue
    pytest.skip("left out: a plain user cannot run this Python or read this folder")


@pytest.fixture
def plain_folder(plain_user: int) -> Iterator[Path]:
    """A folder of the plain user; pytest's own folders are under a folder that only root may enter."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-plain-"))
    os.chown(folder, plain_user, plain_user)
    yield folder / "postgres"
    shutil.rmtree(folder)


def test_a_plain_user_has_a_server_while_root_has_one(
    tmp_path: Path, plain_folder: Path, plain_user: int, plain_python: str
) -> None:
    with start_embedded_server(tmp_path / "postgres") as server:
        user = UserProcess(plain_folder, plain_user, [plain_python])
        assert ask(user.url, "SELECT 1") == 1
        assert {plain_folder.stat().st_uid, (plain_folder / "data").stat().st_uid} == {plain_user}
        assert ask(server.url, "SELECT 1") == 1
        postmaster = server_process(plain_folder)
        user.leave()
        assert not runs(postmaster)


def test_root_joins_the_server_of_a_plain_user_and_leaves_it_usable(
    plain_folder: Path, plain_user: int, plain_python: str
) -> None:
    with start_embedded_server(plain_folder.parent / "other"):
        pass  # root was here first, in a folder beside it
    UserProcess(plain_folder, plain_user, [plain_python]).leave()
    with start_embedded_server(plain_folder) as server:
        user = UserProcess(plain_folder, plain_user, [plain_python])
        assert user.url == server.url
    assert ask(user.url, "SELECT 1") == 1
    postmaster = server_process(plain_folder)
    user.leave()
    assert not runs(postmaster)


def test_another_user_does_not_reach_the_server(tmp_path: Path, plain_user: int, plain_python: str) -> None:
    with start_embedded_server(tmp_path / "postgres") as server:
        done = run_as(plain_user, [plain_python, "-c", f"import psycopg; psycopg.connect({server.url!r})"])
    assert done.returncode != 0
    assert "Permission denied" in done.stderr


def test_root_adds_only_the_permission_to_enter_to_closed_parents(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with start_embedded_server(closed / "postgres") as server:
        assert ask(server.url, "SELECT 1") == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701


def test_permissions_that_root_added_above_the_data_folder_are_undone_by_a_script(tmp_path: Path) -> None:
    outer, inner = tmp_path / "it's", tmp_path / "it's" / "my data"
    inner.mkdir(parents=True)
    for folder in (outer, inner):
        folder.chmod(0o700)
    for _ in range(2):  # the second start finds the folders open and notes nothing again
        with start_embedded_server(inner / "data" / "postgres"):
            assert [stat.S_IMODE(folder.stat().st_mode) for folder in (outer, inner)] == [0o701, 0o701]
    script = inner / "data" / "undo-permissions.sh"
    assert stat.S_IMODE(script.stat().st_mode) == 0o600
    assert script.read_text().count("my data") == 1
    subprocess.run(["/bin/sh", str(script)], check=True)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (outer, inner)] == [0o700, 0o700]
