"""Options that several commands share, with the behavior that belongs to them: paging, confirmation, JSON objects."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from service.cli.output import printable, remark
from service.errors import InvalidRequest

if TYPE_CHECKING:
    from service.database.pagination import Page

DEFAULT_TENANT = "default"
DEFAULT_GALLERY = "default"

TenantName = Annotated[str, typer.Option("--tenant", "-t", help="Name of the tenant.")]
GalleryName = Annotated[str, typer.Option("--gallery", "-g", help="Name of the gallery.")]
GalleryNames = Annotated[
    list[str] | None,
    typer.Option("--gallery", "-g", help="Name of a gallery; repeat the option for several (default: default)."),
]
Image = Annotated[str, typer.Argument(metavar="IMAGE", help="An image file; - reads standard input.")]
Threshold = Annotated[
    float | None, typer.Option("--threshold", min=0.0, max=1.0, help="Similarity from which faces match.")
]
MetadataFilter = Annotated[
    str | None, typer.Option("--metadata", metavar="JSON", help="Only people whose metadata contains this JSON object.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Items per page.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="next_cursor of the previous page.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

Item = TypeVar("Item")


def tell_next_page(page: "Page[Item]") -> None:
    """Print the option that shows the next page, if there is one."""
    if page.next_cursor is not None:
        remark(f"There are more: --cursor {page.next_cursor}")


def confirm(question: str, yes: bool) -> None:
    """Ask on the terminal, and end the program if the answer is no. Without a terminal `--yes` is required."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("--yes is required without a terminal to ask on", param_hint="--yes")
    typer.confirm(printable(question), abort=True, err=True)


def json_object(text: str | None) -> dict[str, Any] | None:
    """The value of `--metadata`, parsed; None if the option is not given. Raises InvalidRequest for anything else."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"--metadata is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("--metadata must be a JSON object")
    return value
