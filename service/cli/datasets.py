"""`face-identity import` and `export`: read and write the references of a gallery as a dataset file."""

import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.context import asynchronous, open_context, open_gallery
from service.cli.encoders import SpaceName, gallery_to_fill
from service.cli.options import DEFAULT_GALLERY, DEFAULT_TENANT, GalleryName, TenantName
from service.cli.output import Json, progress, remark, write_json, write_line
from service.errors import InvalidRequest, NotFound


@asynchronous
async def import_file(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="dataset.json (any of its three formats) or NDJSON.")],
    *,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    encoder: SpaceName = None,
    as_json: Json = False,
) -> None:
    """Load a dataset file into a gallery.

    If a row is wrong, the error names it and nothing is imported. The gallery is created if it is missing; for
    embeddings made elsewhere give --embedding-space external:LABEL:DIMENSION.
    """
    from service.gallery.bulk_writing import finish_load
    from service.identity.datasets.importing import load_dataset

    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    async with open_context(tenant) as context:
        async with gallery_to_fill(context, gallery, encoder) as target:
            with progress() as bar:
                task = bar.add_task("importing", total=None)

                async def advance(done: int, total: int | None) -> None:
                    bar.update(task, completed=done, total=total)

                async with context.session() as session:
                    result = await load_dataset(session, target, lambda: path.open("rb"), advance)
                    await session.commit()
        await finish_load(context.database.engine)
    if as_json:
        write_json({"gallery": gallery, **asdict(result)})
        return
    write_line(f"Imported {result.faces} references of {result.people} new people into {gallery!r} ({result.shape}).")
    if result.duplicates:
        write_line(f"Passed over {result.duplicates} references that these people already had.")


@asynchronous
async def export(
    *,
    format: Annotated[
        Literal["dataset", "encoder", "ndjson"], typer.Option("--format", "-f", help="The format of the file.")
    ] = "dataset",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The file (default: standard output)."),
    ] = None,
    gallery: GalleryName = DEFAULT_GALLERY,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Write a gallery's references as a dataset file.

    Numbers are written exactly as they were imported. --json needs --output and describes the written file.
    """
    from service.database.session import release_connection
    from service.identity.datasets.writing import export_dataset

    if as_json and output is None:
        raise InvalidRequest("--json needs --output, because the dataset goes to standard output")
    async with open_gallery(tenant, gallery) as (session, place):
        await release_connection(session)
        chunks = export_dataset(session, place, format)
        size = await (_to_standard_output(chunks) if output is None else _to_file(chunks, output))
    if output is not None and as_json:
        write_json({"gallery": gallery, "format": format, "file": str(output), "bytes": size})
    elif output is not None:
        remark(f"{output}: {size} bytes")


async def _to_standard_output(chunks: AsyncIterator[bytes]) -> int:
    size = 0
    async for chunk in chunks:
        size += sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
    return size


async def _to_file(chunks: AsyncIterator[bytes], path: Path) -> int:
    """Write under a temporary name and rename at the end, so that a failed export leaves no partial dataset."""
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with unfinished.open("wb") as file:
            async for chunk in chunks:
                file.write(chunk)
            size = file.tell()
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return size
