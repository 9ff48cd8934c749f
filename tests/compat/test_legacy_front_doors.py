"""`make setup-env`, `make`, `make run` and `make clean`, as the legacy recognizer's README has them."""

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the files that `make` reads."""
    for name in (
        "Makefile",
        ".env.example",
        "pyproject.toml",
        "constraints-dev.txt",
        "constraints-insightface.txt",
        "constraints-generators.txt",
        "setup.py",
    ):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    return tmp_path


def make(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["make", *arguments], check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_setup_env_writes_the_settings_once(clone: Path) -> None:
    make(clone, "setup-env")
    assert (clone / ".env").read_text() == (clone / ".env.example").read_text()
    (clone / ".env").write_text("SERVER_PORT=5000\n")
    assert "already" in make(clone, "setup-env")
    assert (clone / ".env").read_text() == "SERVER_PORT=5000\n"


def test_make_without_a_target_installs(clone: Path) -> None:
    assert "pip install" in make(clone, "--dry-run")


def test_run_serves(clone: Path) -> None:
    assert "face-identity serve" in make(clone, "run", "--dry-run")


def test_clean_removes_the_environment(clone: Path) -> None:
    (clone / ".venv").mkdir()
    make(clone, "clean")
    assert not (clone / ".venv").exists()
    assert (clone / ".env.example").exists()
