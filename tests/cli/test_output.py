"""Tables for people: nothing that a user must type is cut, on a narrow terminal either."""

import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from tests.support.waiting import GUARD_SECONDS

IDS = ["0197f3a2-5c1e-7d3b-9a4f-1c2d3e4f5a6b", "0197f3a2-5c1e-7d3b-9a4f-1c2d3e4f5a6c"]
NOW = repr(datetime(2026, 11, 26, 8, 0, tzinfo=UTC))
KEYS = f"""
import datetime
from service.cli.output import write_table
headings = ["id", "name", "begins with", "scopes", "galleries", "expires", "revoked", "last used"]
rows = [(id, "door", "fik_1_abcd", ["enroll", "recognize"], "all", None, None, {NOW}) for id in {IDS}]
write_table(headings, rows, "")
"""
PEOPLE = f"""
import datetime
from service.cli.output import write_table
headings = ["id", "name", "external id", "faces", "created"]
write_table(headings, [(id, "Ada Lovelace", None, 3, {NOW}) for id in {IDS}], "")
"""


def on_terminal(program: str, columns: int) -> list[str]:
    """The lines that a program writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}  # rich ignores COLUMNS on a dumb terminal
    subprocess.run([sys.executable, "-c", program], check=True, stdout=theirs, env=environment, timeout=GUARD_SECONDS)
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the end, on Linux
            break
        if not piece:
            break
        text += piece
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).splitlines()


@pytest.mark.parametrize("program", [KEYS, PEOPLE])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_ids_are_never_cut(program: str, columns: int) -> None:
    lines = on_terminal(program, columns)
    assert [id for id in IDS if not any(id in line for line in lines)] == []
    assert "…" not in "".join(lines)


def test_a_list_of_people_has_one_line_a_person_at_80_columns() -> None:
    """The empty column of external ids is left out."""
    lines = on_terminal(PEOPLE, 80)
    assert len(lines) == 2 + len(IDS)
    assert max(map(len, lines)) <= 80
    assert "external id" not in lines[0]
    assert "external id" in on_terminal(PEOPLE, 200)[0]


def test_a_table_that_is_too_wide_becomes_lines_of_heading_and_value() -> None:
    lines = on_terminal(KEYS, 40)
    assert lines[0].split() == ["id", IDS[0]]
    assert ["scopes", "enroll,", "recognize"] in [line.split() for line in lines]
