"""`.env.example` lists every setting once, with its default and meaning.

`python -m tests.architecture.test_env_example > .env.example` rewrites it.
"""

from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from service.settings import PREFIX, Settings
from service.settings_sources import MARKER, load_settings

LEGACY_SETTINGS = [
    *("SERVER_IP", "SERVER_PORT", "SERVER_SSL_CONTEXT", "SERVER_SSL_KEYFILE"),
    *("DETECTOR_LOAD_DEVICE", "RECOGNIZER_LOAD_DEVICE", "LOGGER_LEVEL", "ENV"),
]
REPOSITORY = Path(__file__).parents[2]
OPENING = f"""{MARKER} Copy this file to .env and change the settings that you need.
# Empty means the default. Every setting also has a name with FACE_IDENTITY_ before it, which has precedence."""


def render() -> str:
    """Return the text of `.env.example`: a comment and NAME=default for each setting, in the order of Settings."""
    entries = [f"# {field.description}\n{name.upper()}={_default(field)}" for name, field in _fields()]
    return "\n\n".join([OPENING, *entries]) + "\n"


def _fields() -> list[tuple[str, FieldInfo]]:
    return list(Settings.model_fields.items())


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None or field.default is None:
        return ""  # depends on the machine, or there is none
    if isinstance(field.default, list):
        return ",".join(field.default)
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def test_the_example_is_in_step_with_the_settings() -> None:
    assert (REPOSITORY / ".env.example").read_text() == render(), __doc__


def test_the_base_file_has_the_settings_of_the_legacy_recognizer() -> None:
    base = (REPOSITORY / ".base.env").read_text()
    names = [line.partition("=")[0] for line in base.splitlines() if line and not line.startswith("#")]
    assert sorted(names) == sorted(LEGACY_SETTINGS)
    assert base.startswith(MARKER)
    assert [entry for entry in base.rstrip().split("\n\n")[1:] if entry not in render()] == []


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in _fields() if not field.description] == []


def test_the_unchanged_example_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    (tmp_path / ".env").write_text(render())
    monkeypatch.chdir(tmp_path)
    assert load_settings() == Settings()


if __name__ == "__main__":
    print(render(), end="")
