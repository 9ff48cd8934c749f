"""The two names of every setting, lists, misspelled names, and whose settings file is read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import Recognizer
from service.errors import InvalidSettings
from service.settings import PREFIX, Settings
from service.settings_sources import MARKER, ignored_names, load_module_settings, load_settings

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, without settings in the environment."""
    for name in [*Settings.model_fields, "env_file"]:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_env(folder: Path, *lines: str) -> Path:
    path = folder / ".env"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_setting_has_a_name_with_the_prefix(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_PORT", "5000")
    assert load_settings().server_port == 5000
    monkeypatch.setenv("FACE_IDENTITY_SERVER_PORT", "6000")
    assert load_settings().server_port == 6000
    assert load_settings(server_port=7000).server_port == 7000


def test_the_environment_precedes_the_file_and_the_prefix_precedes_the_short_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_env(folder, MARKER, "SERVER_PORT=1", "FACE_IDENTITY_SERVER_PORT=2", "MAXIMUM_FACES=3")
    assert (load_settings().server_port, load_settings().maximum_faces) == (2, 3)
    monkeypatch.setenv("SERVER_PORT", "4")
    assert load_settings().server_port == 4


def test_lists_are_separated_by_commas(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCODER", "fake, dlib,")
    monkeypatch.setenv("FACE_IDENTITY_TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.1")
    write_env(folder, MARKER, "ALLOWED_ORIGINS=https://one.example,https://two.example")
    settings = load_settings()
    assert settings.encoder == ["fake", "dlib"]
    assert settings.trusted_proxies == ["10.0.0.0/8", "127.0.0.1"]
    assert settings.allowed_origins == ["https://one.example", "https://two.example"]


def test_a_wrong_value_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_PORT", "many")
    with pytest.raises(InvalidSettings, match=r"^SERVER_PORT: "):
        load_settings()


@pytest.mark.parametrize("lines", [["LIVENES=enforce"], [MARKER, "LIVENES=enforce"], ["SERVER_PORT=1", "LIVENES=x"]])
def test_a_misspelled_name_in_the_file_is_refused(folder: Path, lines: list[str]) -> None:
    write_env(folder, *lines)
    with pytest.raises(InvalidSettings, match=r"\.env has LIVENES, .* did you mean LIVENESS\?"):
        load_settings()


def test_a_misspelled_name_with_the_prefix_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACE_IDENTITY_LIVENES", "enforce")
    with pytest.raises(InvalidSettings, match="did you mean FACE_IDENTITY_LIVENESS"):
        load_settings()
    with pytest.raises(InvalidSettings, match="FACE_IDENTITY_LIVENES"):
        load_module_settings()


def test_other_names_in_the_environment_do_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVENES", "enforce")
    assert load_settings() == Settings()


def test_a_file_of_another_application_is_not_read(folder: Path) -> None:
    write_env(folder, "SECRET_KEY=abc", "DATABASE_URL=postgresql://them@localhost/theirs", "ENV=staging", "DEBUG=1")
    assert load_settings() == Settings()
    assert ignored_names() == ["DATABASE_URL", "ENV"]


def test_a_named_file_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(folder, "SERVER_PORT=1")
    (folder / "ours.env").write_text("SERVER_PORT=5000\n")
    monkeypatch.setenv("FACE_IDENTITY_ENV_FILE", "ours.env")
    assert (load_settings().server_port, load_module_settings().server_port) == (5000, 5000)
    monkeypatch.setenv("FACE_IDENTITY_ENV_FILE", "")
    assert load_settings() == Settings()
    monkeypatch.setenv("FACE_IDENTITY_ENV_FILE", "absent.env")
    with pytest.raises(InvalidSettings, match=r"there is no file 'absent\.env'"):
        load_settings()


@pytest.mark.parametrize("lines", [[MARKER + " More words.", "SERVER_PORT=5000"], ["SERVER_PORT=5000", "LIVENESS=off"]])
def test_a_file_with_the_marker_or_a_setting_that_only_this_service_has_is_read(folder: Path, lines: list[str]) -> None:
    write_env(folder, *lines)
    assert load_settings().server_port == 5000


def test_names_of_docker_compose_may_be_in_the_same_file(folder: Path) -> None:
    write_env(folder, MARKER, "POSTGRES_PASSWORD=secret", "COMPOSE_PROJECT_NAME=faces", "SERVER_PORT=5000")
    assert load_settings().server_port == 5000


def test_the_module_reads_neither_the_file_of_the_folder_nor_short_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_env(folder, MARKER, "ENCODER=no-such-encoder", "LOGGER_LEVEL=nonsense")
    monkeypatch.setenv("ENCODER", "no-such-encoder")
    monkeypatch.setenv("FACE_IDENTITY_ENCODER", "fake")
    with Recognizer() as recognizer:
        assert recognizer.space.name == "fake"


def run_command(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `face-identity` in the folder with this environment and no other settings."""
    names = {name.upper() for name in Settings.model_fields} | {PREFIX + name.upper() for name in Settings.model_fields}
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [str(Path(sys.executable).with_name("face-identity")), *arguments],
        check=False,
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_serve_does_not_start_with_a_misspelled_setting(folder: Path) -> None:
    write_env(folder, "LIVENES=enforce")
    finished = run_command(folder, "serve", "--port", "0", DATA_DIR=str(folder / "data"), ENCODER="fake")
    assert finished.returncode == 7
    assert "did you mean LIVENESS?" in finished.stderr
    assert not (folder / "data").exists()


def test_a_settings_file_that_is_not_utf8_is_refused_by_name_if_it_is_ours(folder: Path) -> None:
    (folder / ".env").write_bytes(MARKER.encode() + b"\nLOGGER_LEVEL=INFO # Ren\xe9\n")
    with pytest.raises(InvalidSettings, match=r"\.env is not UTF-8: byte \d+"):
        load_settings()
    (folder / ".env").write_bytes(b"SECRET=Ren\xe9\n")
    assert load_settings().logger_level == "INFO"


def test_a_command_reads_the_file_that_its_option_names(folder: Path) -> None:
    (folder / "ours.env").write_text("LOGGER_LEVEL=nonsense\n")
    finished = run_command(folder, "--env-file", "ours.env", "models", "list", DATA_DIR=str(folder / "data"))
    assert finished.returncode == 7
    assert "LOGGER_LEVEL" in finished.stderr


def test_a_command_says_which_settings_of_a_foreign_file_it_ignores(folder: Path) -> None:
    write_env(folder, "SECRET_KEY=abc", "DATABASE_URL=postgresql://them@localhost/theirs")
    finished = run_command(folder, "models", "list", DATA_DIR=str(folder / "data"))
    assert finished.returncode == 0
    assert ".env belongs to another application and is not read (DATABASE_URL)" in finished.stderr
