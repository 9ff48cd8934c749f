"""Where settings are read from: options, the environment, and one settings file that belongs to this program.

Nothing is read at import time. `load_settings` serves the command line, `load_module_settings` programs that use the
package as a module. Values come, first match wins, from the command line, the environment and the settings file.

Other programs use names such as DATABASE_URL too, so the module reads only names with the prefix, and a `.env` is read
only if it belongs to this program (`find_env_file`).
"""

import difflib
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from dotenv import dotenv_values
from pydantic import ValidationError

from service.errors import InvalidSettings
from service.settings import PREFIX, Settings

ENV_FILE = "FACE_IDENTITY_ENV_FILE"
"""Environment variable that names the settings file; if it is empty, no file is read."""

MARKER = "# Settings of the face identity service."
"""A `.env` with a line that starts with this text belongs to this program. `.env.example` starts with it."""

_NOT_SETTINGS = {ENV_FILE, "FACE_IDENTITY_TEST_DATA"}
"""Names with our prefix that are no settings: the settings file, and the test suite's folder of photographs."""

_OF_COMPOSE = ("POSTGRES_PASSWORD", "COMPOSE_")
"""Names, or beginnings of names, that docker compose reads from the same `.env`."""

_SHARED_NAMES = {
    "ALLOWED_ORIGINS",
    "DATABASE_POOL_SIZE",
    "DATABASE_URL",
    "DATA_DIR",
    "ENV",
    "LOGGER_LEVEL",
    "SERVER_IP",
    "SERVER_PORT",
    "SERVER_WORKERS",
    "TRUSTED_PROXIES",
}
"""Settings whose older names are common in other applications, so that they do not show whose file it is."""

# Of the closest setting: LIVENES to LIVENESS is 0.93, SECRET_KEY to SERVER_SSL_KEYFILE 0.57.
_SIMILAR = 0.8


class _ModuleSettings(Settings):
    """The same settings for a program with an environment of its own: only names with the prefix are read."""

    reads_older_names: ClassVar[bool] = False


def load_settings(**changes: object) -> Settings:
    """Return the settings of the command line. `changes` are options of the command, None if they were not given.

    Raises InvalidSettings.
    """
    return _load(Settings, find_env_file(), changes)


def load_module_settings(**changes: object) -> Settings:
    """Return the settings for a program that uses the package as a module.

    Only names with the prefix are read from the environment, and only a file that FACE_IDENTITY_ENV_FILE names: the
    `.env` in the working folder is the file of that program. Raises InvalidSettings.
    """
    return _load(_ModuleSettings, _named_env_file(), changes)


def find_env_file() -> Path | None:
    """Return the settings file: the named one, or `.env` of the working folder if it belongs to this program.

    It does if one of these holds:
    - it contains the marker line of `.env.example`,
    - it lies in the folder of this program's source,
    - one of its names is a setting that other applications hardly have, or nearly one: a file with the single line
      LIVENES=enforce has to be refused for its typo, not ignored.
    Raises InvalidSettings if a file is named and does not exist.
    """
    if ENV_FILE in os.environ:
        return _named_env_file()
    path = Path(".env")
    if not path.is_file():
        return None
    source = path.absolute().parent / "service" / Path(__file__).name
    if source.is_file() and source.samefile(__file__):
        return path
    if any(line.startswith(MARKER) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()):
        return path
    return path if any(_is_distinctive(name) for name in _names_in(path)) else None


def ignored_names(path: Path = Path(".env")) -> list[str]:
    """Return our settings that `path` contains although it belongs to another application, and so are not read."""
    if ENV_FILE in os.environ or not path.is_file() or find_env_file() is not None:
        return []
    return [name for name in _names_in(path) if name in _known_names()]


def check_environment() -> None:
    """Raise InvalidSettings if the environment has a name with our prefix that is no setting."""
    for name in os.environ:
        upper = name.upper()
        if upper.startswith(PREFIX) and upper not in _known_names() | _NOT_SETTINGS:
            raise InvalidSettings(f"the environment has {name}, which is not a setting{_suggestion(upper)}")


def check_env_file(path: Path) -> None:
    """Raise InvalidSettings if the file is not UTF-8 or has a name that is no setting.

    A misspelled setting would have no effect.
    """
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{path} is not UTF-8: byte {error.start} (counted from 0) is wrong") from None
    for name in _names_in(path):
        if name not in _known_names() and not name.startswith(_OF_COMPOSE):
            raise InvalidSettings(
                f"{path} has {name}, which is not a setting{_suggestion(name)}. If the file belongs to another "
                f"application, name a file of this service with --env-file or {ENV_FILE}; empty: no file is read"
            )


def _load(kind: type[Settings], env_file: Path | None, changes: dict[str, object]) -> Settings:
    """Return the settings, with those `changes` first that are not None. The error names the setting or the file."""
    check_environment()
    if env_file is not None:
        check_env_file(env_file)
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return kind(_env_file=env_file, **given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).upper()
        raise InvalidSettings(f"{name}: {first['msg']}") from None


def _named_env_file() -> Path | None:
    named = os.environ.get(ENV_FILE)
    if not named:
        return None
    path = Path(named)
    if not path.is_file():
        raise InvalidSettings(f"{ENV_FILE}: there is no file {named!r}")
    return path


def _names_in(path: Path) -> list[str]:
    """The names in the file, which may be another application's and in any encoding."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return [name.upper() for name in dotenv_values(stream=io.StringIO(text), interpolate=False)]


def _known_names() -> set[str]:
    older = {name.upper() for name in Settings.model_fields}
    return older | {PREFIX + name for name in older}


def _is_distinctive(name: str) -> bool:
    if name.startswith(PREFIX):
        return True
    closest = _closest(name, _known_names())
    return closest is not None and closest not in _SHARED_NAMES


def _closest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=_SIMILAR)), None)


def _suggestion(name: str) -> str:
    closest = _closest(name, _known_names())
    return f"; did you mean {closest}?" if closest else ""
