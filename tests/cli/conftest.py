"""The command line in this process, on the run's database, with a separate tenant for each test."""

import json
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service import cli
from service.database.connection import Database
from service.settings import Settings
from tests.conftest import new_tenant


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the output, which must be one JSON document in one line."""
        assert self.code in {0, 1, 3, 4}, self.err
        (line,) = self.out.splitlines()
        return json.loads(line)


Command = Callable[..., Done]


@pytest.fixture
def bare_command(
    settings: Settings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> Command:
    """Run `face-identity` with the given arguments, in an empty folder."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("DATABASE_URL", settings.database_url or "")
    monkeypatch.setenv("ENCODER", ",".join(settings.encoder))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["face-identity", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
async def tenant(database: Database) -> str:
    """The name of a fresh tenant."""
    name = f"tenant-{uuid.uuid4().hex[:12]}"
    await new_tenant(database, name)
    return name


@pytest.fixture
def command(bare_command: Command, tenant: str) -> Command:
    """Run a command for the fresh tenant."""
    return lambda *arguments: bare_command(*arguments, "--tenant", tenant)
