"""The wheel and the source distribution: contents, metadata, and the commands in an empty environment and folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import httpx
import pytest

from service.settings import PREFIX, Settings
from tests.architecture.test_tree import tracked_files
from tests.support.folders import OpenFolder
from tests.support.waiting import GUARD_SECONDS, wait_until

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that is built from it.

    The build runs in a copy of the tracked files, and with the build backend of this environment: no network.
    """
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for path in tracked_files():
        target = source / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built)]
    finished = subprocess.run(build, check=False, cwd=source, capture_output=True, text=True, timeout=GUARD_SECONDS)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return built


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_the_wheel_has_every_file_of_the_package_and_the_revisions(wheel: Path) -> None:
    tracked = {path.relative_to(REPOSITORY) for path in tracked_files()}
    packages = {str(path) for path in tracked if path.parts[0] in ("service", "face_identity")}
    revisions = {f"service/{path}" for path in tracked if path.parts[0] == "migrations"}
    assert packages | revisions <= wheel_names(wheel)


def test_the_wheel_has_the_templates_of_its_pages(wheel: Path) -> None:
    folder = "service/http/templates/"
    assert {name for name in wheel_names(wheel) if name.startswith(folder)} == {
        f"{folder}api_page.html",
        f"{folder}api_page.css",
    }


def test_the_wheel_has_nothing_else(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in wheel_names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"service", "face_identity"}


def test_the_source_distribution_has_every_tracked_file(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = {str(path.relative_to(REPOSITORY)) for path in tracked_files()}
    left_out = {name for name in tracked - names if not name.startswith(("benchmarks/results/", ".git"))}
    assert left_out == set()


def test_the_metadata_fits_a_package_index(wheel: Path) -> None:
    described = metadata(wheel)
    assert described["License-Expression"] == "Apache-2.0"
    assert described["Description-Content-Type"] == "text/markdown"
    assert described["Keywords"]
    assert "Typing :: Typed" in described.get_all("Classifier", [])
    # There is no public home yet, and an invented address would mislead.
    assert described.get_all("Project-URL") is None
    # An index shows the description alone: relative links and images would lead nowhere.
    assert "](" not in str(described.get_payload())


@pytest.fixture(scope="module")
def newcomer(wheel: Path) -> Iterator[Path]:
    """An empty folder beside a virtual environment with the wheel; `environment/bin/face-identity` is its command.

    The dependencies come from this environment by a path file, so that nothing is downloaded. The repository is not on
    the path. Not in pytest's own folder: PostgreSQL, which is another user, cannot enter that.
    """
    with OpenFolder() as name:
        root = Path(name)
        root.chmod(0o755)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "environment")], check=True)
        (packages,) = (root / "environment" / "lib").glob("python*/site-packages")
        dependencies = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
        pip = [sys.executable, "-m", "pip", "--python", str(root / "environment/bin/python"), "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--no-index", "--force-reinstall", str(wheel)], check=True)
        (root / "folder").mkdir()
        yield root


def environment(newcomer: Path) -> dict[str, str]:
    """Return an environment without settings and without a path to the repository, with the data beside the folder."""
    settings = {name.upper() for name in Settings.model_fields}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper().removeprefix(PREFIX) not in settings and name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    own = {"HOME": str(newcomer), "DATA_DIR": str(newcomer / "data"), "EMBEDDED_DATABASE_LINGER_SECONDS": "0"}
    return kept | own


def run(newcomer: Path, program: str, *arguments: str) -> str:
    """Run a program of the new environment in the empty folder and return its output."""
    finished = subprocess.run(
        [str(newcomer / "environment/bin" / program), *arguments],
        check=False,
        cwd=newcomer / "folder",
        env=environment(newcomer),
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_the_installed_package_is_the_one_of_the_wheel(newcomer: Path) -> None:
    imported = run(newcomer, "python", "-c", "import face_identity, service; print(service.__file__)")
    assert imported.startswith(str(newcomer / "environment"))


def test_migrate_runs_outside_the_repository(newcomer: Path) -> None:
    assert "schema 0" in run(newcomer, "face-identity", "migrate")


def test_the_demo_runs_outside_the_repository(newcomer: Path) -> None:
    assert "38 of 38 faces recognized" in run(newcomer, "face-identity", "demo")
    assert (newcomer / "folder/demo-output/recognized.jpg").exists()


def test_serve_answers_outside_the_repository_and_stops(newcomer: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    log = newcomer / "serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [str(newcomer / "environment/bin/face-identity"), "serve", "--port", str(port)],
            cwd=newcomer / "folder",
            env=environment(newcomer),
            stdout=output,
            stderr=output,
        )
    try:
        wait_for_answer(server, f"http://127.0.0.1:{port}/healthz", log)
        assert "<h1>Face identity service" in httpx.get(f"http://127.0.0.1:{port}/docs", timeout=GUARD_SECONDS).text
    finally:
        server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=GUARD_SECONDS) == 0, log.read_text()[-4000:]


def wait_for_answer(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    def answers() -> bool:
        assert server.poll() is None, log.read_text()[-4000:]
        try:
            assert httpx.get(url, timeout=GUARD_SECONDS).json() == {"status": "alive"}
        except httpx.TransportError:
            return False
        return True

    wait_until(answers, lambda: log.read_text()[-4000:])
