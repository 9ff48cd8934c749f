"""One page of a longer list: the options that ask for it and how it is told."""

from typing import Annotated, TypeVar

import typer

from service.cli.output import remark
from service.database.pagination import Page

Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Entries a page.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="Where the page before ended (its next_cursor).")]

Item = TypeVar("Item")


def tell_of_more(page: Page[Item]) -> None:
    """Say how to go on, where the list is longer than the page."""
    if page.next_cursor is not None:
        remark(f"There are more: --cursor {page.next_cursor}")
