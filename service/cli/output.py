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
    from rich.text import Text

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
    """Print a table for people, or the text `empty` if there are no rows.

    Words, such as ids, are never cut. If the terminal is too narrow for the table, columns without content are left
    out; if that is not enough, every row becomes a few lines of heading and value.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [[cell if isinstance(cell, Text) else Text(shown(cell)) for cell in row] for row in rows]
    if not cells:
        write_line(empty)
        return
    console = _console()
    if _width_of(headings, cells, wrapped=False) > console.width:
        headings, cells = _without_empty_columns(headings, cells)
    if _width_of(headings, cells, wrapped=True) > console.width:
        _print_records(console, headings, cells)
        return
    from rich.table import Column

    columns = [
        Column(heading, min_width=width)
        for heading, width in zip(headings, _column_widths(headings, cells, wrapped=True), strict=True)
    ]
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in cells:
        table.add_row(*row)
    console.print(table)


_GAP = 2
"""Blanks between two columns."""


def _width_of(headings: Sequence[str], cells: "Sequence[Sequence[Text]]", *, wrapped: bool) -> int:
    """The width of the table: of the narrowest that cuts no word, or of that with one line per row."""
    return sum(_column_widths(headings, cells, wrapped=wrapped)) + _GAP * (len(headings) - 1)


def _column_widths(headings: Sequence[str], cells: "Sequence[Sequence[Text]]", *, wrapped: bool) -> list[int]:
    """The width of the longest word or line of each column, in columns of the terminal."""
    from rich.cells import cell_len

    texts = [[heading, *(row[number].plain for row in cells)] for number, heading in enumerate(headings)]
    split = str.split if wrapped else str.splitlines
    return [max((cell_len(part) for text in column for part in split(text)), default=1) for column in texts]


def _without_empty_columns(
    headings: Sequence[str], cells: "Sequence[Sequence[Text]]"
) -> "tuple[list[str], list[list[Text]]]":
    kept = [number for number in range(len(headings)) if any(row[number].plain for row in cells)]
    return [headings[number] for number in kept], [[row[number] for number in kept] for row in cells]


def _print_records(console: "Console", headings: Sequence[str], cells: "Sequence[Sequence[Text]]") -> None:
    """Print each row as lines of heading and value, with an empty line between rows. Long values are wrapped."""
    from rich.text import Text

    widest = max(map(len, headings))
    for number, row in enumerate(cells):
        if number:
            console.print()
        for heading, cell in zip(headings, row, strict=True):
            if cell.plain:
                console.print(Text.assemble(heading.ljust(widest + _GAP), cell), soft_wrap=True)


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
