"""Rules for every command: help, imports, errors, exit codes."""

import json
import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from service.cli.commands import COMMANDS
from service.settings import Settings
from tests.cli.conftest import Command

PROGRAM = str(Path(sys.executable).with_name("face-identity"))
HEAVY = [
    "numpy",
    "sqlalchemy",
    "fastapi",
    "dlib",
    "onnxruntime",
    "cv2",
    "alembic",
    "rich",
    "asyncio",
    "PIL",
]
HELP_OF_EVERY_COMMAND = """
import sys
from service.cli import main
from service.cli.commands import COMMANDS
from service.cli.legacy import PROGRAMS
for words in [*([name] for name in COMMANDS), *(["legacy", name] for name in PROGRAMS)]:
    sys.argv = ["face-identity", *words, "--help"]
    try:
        main()
    except SystemExit as ended:
        assert ended.code == 0, words
sys.stderr.write(" ".join(sys.modules))
"""


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    return subprocess.run([PROGRAM, *arguments], check=False, capture_output=True, text=True, env=kept | environment)


def test_help_lists_every_command_of_the_contract() -> None:
    shown = run("--help").stdout
    contract = (
        "serve demo enroll recognize verify detect encode import export tenants keys galleries people migrate work"
    )
    assert [name for name in [*contract.split(), "evaluate", "compare"] if f" {name} " not in shown] == []


def test_help_imports_few_modules_and_no_heavy_library() -> None:
    """The number of modules stands for the start time: 199 today, 601 with numpy, SQLAlchemy and FastAPI."""
    program = "import sys; sys.argv = ['face-identity', '--help']\nfrom service.cli import main\ntry: main()\nfinally: "
    program += "sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    imported = set(done.stderr.split())
    assert imported & set(HEAVY) == set()
    assert {name for name in imported if name.startswith("service.")} == {
        *("service.cli", "service.cli.commands", "service.cli.exits", "service.errors"),
    }
    assert len(imported) < 400


def test_the_help_of_all_commands_together_imports_no_heavy_library() -> None:
    """What a command works with is imported when it runs. 1,300 modules were imported for `people --help` alone."""
    done = subprocess.run([sys.executable, "-c", HELP_OF_EVERY_COMMAND], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = set(done.stderr.split())
    assert imported & set(HEAVY) == set()
    assert len(imported) < 400
    assert "Erase one face of a person" in done.stdout


@pytest.mark.parametrize(
    "words",
    [["poeple", "list"], ["people", "lst"], ["recognize"], ["keys", "create", "--days", "x"], ["enroll", "--x"]],
)
def test_a_wrong_command_line_is_refused_without_a_heavy_library(words: list[str]) -> None:
    program = (
        f"import sys; sys.argv = ['face-identity', *{words}]\nfrom service.cli import main\ntry: main()\nfinally: "
    )
    program += "print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert set(done.stdout.split()) & set(HEAVY) == set()


@pytest.mark.parametrize(
    ("words", "number", "expected"),
    [
        ("face-identity peo", 1, {"people"}),
        ("face-identity keys r", 2, {"rotate", "revoke"}),
        ("face-identity ", 1, set(COMMANDS)),
    ],
)
def test_bash_completes_commands(words: str, number: int, expected: set[str]) -> None:
    done = run(_FACE_IDENTITY_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(number))
    assert set(done.stdout.split()) == expected
    assert "_FACE_IDENTITY_COMPLETE" in run("--show-completion", "bash").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_repeats_the_summary_of_each_command(name: str) -> None:
    path, summary = COMMANDS[name]
    module, member = path.split(":")
    command = getattr(import_module(module), member)
    described = command.info.help if isinstance(command, typer.Typer) else command.__doc__.strip().split("\n")[0]
    assert described == summary


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {"serve", "work", "legacy"}])
def test_every_command_with_a_result_takes_json(bare_command: Command, name: str) -> None:
    path, _ = COMMANDS[name]
    module, member = path.split(":")
    command = getattr(import_module(module), member)
    parts = (
        [each.name or each.callback.__name__ for each in command.registered_commands]
        if member == "application"
        else [""]
    )
    assert [part for part in parts if "--json" not in bare_command(name, *part.split(), "--help").out] == []


def test_an_unknown_command_is_a_usage_error(bare_command: Command) -> None:
    done = bare_command("enrol")
    assert done.code == 2
    assert "enroll" in done.err


def test_an_error_is_one_line_without_a_traceback(command: Command) -> None:
    done = command("galleries", "show", "nix")
    assert (done.code, done.out) == (5, "")
    assert done.err == "face-identity: there is no gallery named 'nix'\n"


def test_an_error_is_json_for_programs(command: Command) -> None:
    done = command("galleries", "show", "nix", "--json")
    assert (done.code, done.out) == (5, "")
    assert json.loads(done.err)["error"] == {
        "slug": "not-found",
        "title": "The requested resource does not exist",
        "detail": "there is no gallery named 'nix'",
    }


def test_an_unknown_tenant_is_not_found(bare_command: Command) -> None:
    assert bare_command("people", "list", "--tenant", "nix").code == 5


def test_the_tenant_default_is_created_if_it_is_missing(bare_command: Command) -> None:
    assert bare_command("galleries", "list").code == 0
    assert "default" in bare_command("tenants", "list").out


def test_the_error_names_a_wrong_setting() -> None:
    done = run("galleries", "list", SERVER_PORT="many")
    assert done.returncode == 7
    assert "SERVER_PORT" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unreachable_database_is_reported_in_one_line() -> None:
    done = run("galleries", "list", DATABASE_URL="postgresql://someone:secret@127.0.0.1:1/nowhere")
    assert done.returncode == 7
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr


def test_a_name_that_the_encoding_of_the_terminal_lacks_is_shown_by_its_code(bare_command: Command) -> None:
    bare_command("tenants", "create", "田中-of-ascii")
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([PROGRAM, "tenants", "list"], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "\\u7530\\u4e2d-of-ascii" in done.stdout


def test_a_closed_pipe_is_not_an_error(bare_command: Command) -> None:
    """As in `face-identity people list | head -1`."""
    bare_command("tenants", "list")
    command = f"{shlex.quote(PROGRAM)} tenants list --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "0"
    assert done.stderr == ""
