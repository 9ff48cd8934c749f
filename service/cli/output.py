"""Results on standard output: tables or lines for people, one JSON document for programs.

Progress bars and remarks go to standard error. Piped output has no colors and is never cut.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]

_PIPED_WIDTH = 10_000  # columns; rich assumes 80 without a terminal and would cut


def write_json(value: object) -> None:
    """Print one JSON document on one line."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    print(json.dumps(value, ensure_ascii=ascii_only, default=_as_json), flush=True)


def write_line(text: str, style: str = "") -> None:
    """Print a line for people on standard output."""
    from rich.text import Text

    _console().print(Text(printable(text), style=style), soft_wrap=True)


def write_table(headings: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print a table for people, or the text `empty` if there are no rows."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(shown(cell)) for cell in row))
    if table.row_count:
        _console().print(table)
    else:
        write_line(empty)


def remark(text: str) -> None:
    """Print a remark on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def progress(quiet: bool = False) -> "Progress":
    """A progress bar on standard error; hidden by `quiet` and if standard error is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


def shown(value: object) -> str:
    """Format a value for people: times to the second, numbers to three places, None as nothing."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple | frozenset):
        return ", ".join(shown(item) for item in value)
    return printable(str(value))


def printable(text: str) -> str:
    """Replace control characters, which could move a terminal's cursor."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


@contextlib.contextmanager
def ignore_closed_output() -> Iterator[None]:
    """Suppress the error of writing to a closed pipe, as in `... | head -1`, and discard the remaining output."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console() -> "Console":
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_PIPED_WIDTH)


def _as_json(value: Any) -> object:
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
