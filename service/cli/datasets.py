"""`face-identity import` and `export`: a gallery's references as a file, in and out."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.context import DEFAULT_GALLERY, DEFAULT_TENANT, Gallery, Tenant, asynchronous, open_context
from service.cli.encoders import SpaceName
from service.cli.filling import gallery_to_fill
from service.cli.output import Json, progress, remark, write_json, write_line
from service.errors import InvalidRequest, NotFound
from service.gallery.bulk_writing import finish_load
from service.gallery.galleries import find_gallery
from service.identity.datasets.importing import load_dataset
from service.identity.datasets.writing import export_dataset


@asynchronous
async def import_file(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="dataset.json (three shapes) or NDJSON.")],
    *,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    encoder: SpaceName = None,
    as_json: Json = False,
) -> None:
    """Load a dataset file into a gallery.

    All of it, or nothing where a row is wrong, which is named. The gallery is made where it is missing: for embeddings
    made elsewhere say --embedding-space external:LABEL:DIMENSION.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    async with open_context(tenant) as context:
        found = await gallery_to_fill(context, gallery, encoder)
        with progress() as bar:
            task = bar.add_task("importing", total=None)

            async def advance(done: int, total: int | None) -> None:
                bar.update(task, completed=done, total=total)

            async with context.session() as session:
                result = await load_dataset(session, found, lambda: path.open("rb"), advance)
                await session.commit()
        await finish_load(context.database.engine)
    if as_json:
        write_json({"gallery": gallery, "people": result.people, "faces": result.faces, "shape": result.shape})
        return
    write_line(f"{result.faces} references of {result.people} people are in gallery {gallery!r} ({result.shape}).")


@asynchronous
async def export(
    *,
    format: Annotated[
        Literal["dataset", "encoder", "ndjson"], typer.Option("--format", "-f", help="The file's shape.")
    ] = "dataset",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write (default: standard output).")
    ] = None,
    gallery: Gallery = DEFAULT_GALLERY,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Write a gallery's references as a dataset file.

    Every number exactly as it came. --json, which needs --output, says what was written.
    """
    if as_json and output is None:
        raise InvalidRequest("--json needs --output: standard output is the dataset itself")
    async with open_context(tenant) as context, context.session() as session:
        chunks = export_dataset(session, await find_gallery(session, gallery), format)
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
    """Under another name until it is whole: an export that breaks off leaves no half of a dataset."""
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
