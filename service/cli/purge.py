"""`face-identity purge`: removes the bytes of erased people from the files of the database, and searches for them."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.context import asynchronous, open_migrated, read_settings
from service.cli.exits import ExitCode
from service.cli.output import Json, remark, write_json, write_line
from service.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from service.database.scanning import Marker, Scan

_UNSEARCHED = "the files of a server named by DATABASE_URL cannot be read from here, so none was searched"


@asynchronous
async def purge(
    *,
    find: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Search the files before and after for what each line holds: a name, or an embedding as a JSON list; "
            "- reads standard input.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove the bytes of erased people from the files of the database.

    Writes each table anew, and requests that need it wait meanwhile. Exit code 1 if something could not be done, or
    if something of --find is still there.
    """
    import asyncio

    from service.database.purge import purge_database
    from service.database.scanning import scan_folder

    settings = read_settings()
    markers = [] if find is None else _read_markers(find)
    folder = None if settings.database_url else settings.data_dir / "postgres"
    before = after = None
    async with open_migrated(settings) as database:
        if folder is not None and markers:
            before = await asyncio.to_thread(scan_folder, folder, markers)
        done = await asyncio.to_thread(purge_database, database.logins.administrator)
        if folder is not None:
            after = await asyncio.to_thread(scan_folder, folder, markers)
    if folder is None:
        done.shortcomings.append(_UNSEARCHED)
    if as_json:
        scans = {"before": before and asdict(before), "after": after and asdict(after)}
        write_json({**asdict(done), "searched": scans})
    else:
        write_line(f"Wrote {len(done.tables)} tables anew, removed {done.segments_removed} segments of the log.")
        _tell_scan("Before", before)
        _tell_scan("Now", after)
        for shortcoming in done.shortcomings:
            remark(shortcoming)
    if done.shortcomings or (after is not None and (after.found or after.unreadable)):
        raise typer.Exit(ExitCode.NO)


def _read_markers(path: Path) -> "list[Marker]":
    from service.database.scanning import read_markers

    if str(path) == "-":
        lines = sys.stdin.read().splitlines()
    elif path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
    else:
        raise NotFound(f"there is no file {path}")
    if not (markers := read_markers(lines)):
        raise InvalidRequest("the list of --find is empty")
    return markers


def _tell_scan(when: str, scan: "Scan | None") -> None:
    if scan is None:
        return
    places = [f"line {sighting.number} of --find ({sighting.form}) in {sighting.file}" for sighting in scan.found]
    write_line(f"{when}: searched {scan.files} files, {scan.bytes} bytes; found {len(places)}.")
    for place in [*places, *(f"cannot be read: {file}" for file in scan.unreadable)]:
        write_line(f"  {place}")
