"""Asking before something is erased."""

import sys
from typing import Annotated

import typer

from service.cli.output import printable

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(question: str, yes: bool) -> None:
    """Ask on the terminal; without one, `--yes` is needed. Leaves the program where the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("needs --yes where nobody can be asked", param_hint="--yes")
    typer.confirm(printable(question), abort=True, err=True)
