"""`.env.example` lists every setting once, with its default and meaning.

`python -m tests.architecture.test_env_example > .env.example` writes it anew.
"""

from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from service.settings import Settings

REPOSITORY = Path(__file__).parents[2]
OPENING = "# Every setting with its default. Copy to .env and change what you need; empty means the default."


def render() -> str:
    """The text of `.env.example`: one comment and one NAME=default a setting, in the order of Settings."""
    entries = [f"# {field.description}\n{name.upper()}={_default(field)}" for name, field in _fields()]
    return "\n\n".join([OPENING, *entries]) + "\n"


def _fields() -> list[tuple[str, FieldInfo]]:
    return list(Settings.model_fields.items())


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None or field.default is None:
        return ""  # made for the machine, or none
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)


def test_the_example_is_in_step_with_the_settings() -> None:
    assert (REPOSITORY / ".env.example").read_text() == render(), __doc__


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in _fields() if not field.description] == []


def test_the_example_as_it_is_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / ".env").write_text(render())
    monkeypatch.chdir(tmp_path)
    assert Settings() == Settings(_env_file=None)


if __name__ == "__main__":
    print(render(), end="")
