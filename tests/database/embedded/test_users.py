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

from service.database.embedded import cluster
from service.database.embedded.server import start_embedded_server
from service.errors import DatabaseUnavailable
from service.settings import ROOT_DATA_FOLDER, default_data_folder
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
    folder.chmod(0o711)
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


@pytest.mark.parametrize("depth", [1, 2])
def test_root_leaves_closed_parents_closed_and_is_told_the_command(tmp_path: Path, depth: int) -> None:
    outer, inner = tmp_path / "it's", tmp_path / "it's" / "my data"
    inner.mkdir(parents=True)
    closed = [outer, inner][:depth]
    for folder in closed:
        folder.chmod(0o700)
    with pytest.raises(DatabaseUnavailable) as refused:
        start_embedded_server(inner / "data" / "postgres")
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in closed] == [0o700] * depth
    command = refused.value.detail.rpartition(": ")[2]
    subprocess.run(["/bin/sh", "-c", command], check=True)
    with start_embedded_server(inner / "data" / "postgres") as server:
        assert ask(server.url, "SELECT 1") == 1


def test_folders_that_root_creates_are_open_whatever_the_umask(tmp_path: Path) -> None:
    former = os.umask(0o077)
    try:
        with start_embedded_server(tmp_path / "new" / "data" / "postgres") as server:
            assert ask(server.url, "SELECT 1") == 1
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o701
    assert stat.S_IMODE((tmp_path / "new/data/postgres").stat().st_mode) == 0o700


@pytest.fixture
def closed_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PostgreSQL's programs in a Python environment that only root may enter, installed with a narrow umask."""
    (version, folder), *_ = sorted(cluster.installed_programs().items(), reverse=True)
    environment = tmp_path / "environment"
    package = folder.parent.parent
    programs = environment / folder.parent.relative_to(package.parent)
    shutil.copytree(folder.parent, programs, symlinks=True)
    if (libraries := package.parent / f"{package.name}.libs").is_dir():
        shutil.copytree(libraries, environment / libraries.name)
    for path in (environment, programs, programs / "share", next(programs.rglob("vector.control"))):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)
    monkeypatch.setattr(cluster, "installed_programs", lambda: {version: programs / "bin"})
    return programs


def test_programs_in_a_closed_folder_are_copied_once(tmp_path: Path, closed_programs: Path) -> None:
    folder = tmp_path / "data" / "postgres"
    for _ in range(2):
        with start_embedded_server(folder) as server:
            assert ask(server.url, "SELECT 1") == 1
            ask(server.url, "CREATE EXTENSION IF NOT EXISTS vector")
            (copy,) = (tmp_path / "data" / "programs").iterdir()
    made = copy.stat().st_mtime_ns
    os.utime(closed_programs / "bin" / "postgres")  # installed anew
    with start_embedded_server(folder) as server:
        assert ask(server.url, "SELECT '[1]'::vector::text") == "[1]"
        (newer,) = (tmp_path / "data" / "programs").iterdir()
    assert newer != copy
    assert newer.stat().st_mtime_ns != made
    assert stat.S_IMODE(closed_programs.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(closed_programs.parents[1].stat().st_mode) & 0o077 == 0


def test_the_data_of_root_lie_in_a_folder_that_other_users_can_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_data_folder() == ROOT_DATA_FOLDER
    own = tmp_path / ".local/share/face-identity"
    own.mkdir(parents=True)  # of an earlier version
    assert default_data_folder() == own
