"""The legacy recognizer's eight settings, `python run.py` and ENV=development."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.errors import InvalidSettings
from service.settings import Settings
from service.settings_sources import load_settings
from tests.support.server import ServerProcess
from tests.support.waiting import GUARD_SECONDS, wait_until

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


def test_a_value_of_env_for_another_program_is_ignored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def has_ended(group: int) -> bool:
    """Whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


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
        assert process.wait(timeout=GUARD_SECONDS) == 0
        wait_until(lambda: has_ended(process.pid))


def title_at(url: str) -> str | None:
    """The title in the OpenAPI document, or None if the server does not answer."""
    try:
        return str(httpx.get(f"{url}/openapi.json", timeout=GUARD_SECONDS).json()["info"]["title"])
    except (httpx.TransportError, ValueError):
        return None


def test_the_server_restarts_in_development_if_the_program_changes(program: Path, running: str) -> None:
    wait_until(lambda: title_at(running))
    title = title_at(running)
    assert title is not None
    source = program / "service" / "app.py"
    source.write_text(source.read_text().replace(title, "Changed title"))
    wait_until(lambda: title_at(running) == "Changed title")


def test_the_dialect_is_refused_if_liveness_is_enforced(settings: Settings) -> None:
    with pytest.raises(InvalidSettings, match="LEGACY_API=off"):
        create_app(settings.model_copy(update={"liveness": "enforce", "legacy_api": "key"}))
    create_app(settings.model_copy(update={"liveness": "enforce", "legacy_api": "off"}))
