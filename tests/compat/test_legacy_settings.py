"""The legacy recognizer's eight settings, `python run.py` and ENV=development."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.errors import InvalidSettings
from service.settings import Settings, load_settings
from tests.support.server import ServerProcess

REPOSITORY = Path(__file__).parents[2]
BASE_ENV = """
SERVER_IP=0.0.0.0
SERVER_PORT=5000
DETECTOR_LOAD_DEVICE=0
RECOGNIZER_LOAD_DEVICE=-1
SERVER_SSL_CONTEXT=certificate.pem
SERVER_SSL_KEYFILE=key.pem
LOGGER_LEVEL=debug
ENV=development
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to start in, without settings in the environment."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_eight_settings_are_taken_from_an_env_file(folder: Path) -> None:
    (folder / ".env").write_text(BASE_ENV)
    settings = load_settings()
    assert (settings.server_ip, settings.server_port) == ("0.0.0.0", 5000)  # noqa: S104 - read, not listened on
    assert (settings.detector_load_device, settings.recognizer_load_device) == (0, -1)
    assert (settings.server_ssl_context, settings.server_ssl_keyfile) == (Path("certificate.pem"), Path("key.pem"))
    assert (settings.logger_level, settings.env) == ("DEBUG", "development")


def test_all_eight_settings_may_be_empty(folder: Path) -> None:
    (folder / ".env").write_text(re.sub(r"=.*", "=", BASE_ENV))
    assert load_settings() == Settings()


def test_another_meaning_of_env_does_not_disturb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "/etc/shinit")
    assert load_settings().env != "development"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A copy of the program that may be changed."""
    for name in ("service", "migrations"):
        shutil.copytree(REPOSITORY / name, tmp_path / "program" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("alembic.ini", "run.py"):
        shutil.copy(REPOSITORY / name, tmp_path / "program" / name)
    return tmp_path / "program"


def wait_for_the_end_of_group(number: int) -> None:
    """Wait until no process of the group is left."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            os.killpg(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a process is still there")


@pytest.fixture
def running(program: Path, tmp_path: Path) -> Iterator[str]:
    """`python run.py` with ENV=development in `.env`; its address."""
    server = ServerProcess(tmp_path)
    lines = {"SERVER_PORT": str(server.port), "ENV": "development", "WORKER_IN_SERVER": "false"}
    (program / ".env").write_text("\n".join(f"{name}={value}" for name, value in lines.items()))
    environment = server.environment | {"PYTHONPATH": str(program)}
    process = subprocess.Popen([sys.executable, "run.py"], cwd=program, env=environment, start_new_session=True)
    try:
        yield server.url
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
        wait_for_the_end_of_group(process.pid)


def title_at(url: str, other_than: str = "") -> str:
    """The title in the OpenAPI document, once there is one other than that."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            title = str(httpx.get(f"{url}/openapi.json", timeout=10).json()["info"]["title"])
        except (httpx.TransportError, ValueError):
            title = other_than
        if title != other_than:
            return title
        time.sleep(0.2)
    raise AssertionError("the server did not answer in time")


def test_in_development_a_change_of_the_program_is_taken_up(program: Path, running: str) -> None:
    title = title_at(running)
    source = program / "service" / "app.py"
    source.write_text(source.read_text().replace(title, "Changed title"))
    assert title_at(running, title) == "Changed title"


def test_the_dialect_is_no_way_around_the_gate_for_living_faces(settings: Settings) -> None:
    with pytest.raises(InvalidSettings, match="LEGACY_API=off"):
        create_app(settings.model_copy(update={"liveness": "enforce", "legacy_api": "key"}))
    create_app(settings.model_copy(update={"liveness": "enforce", "legacy_api": "off"}))
