"""`face-identity galleries`: a tenant's galleries, each bound to one embedding space."""

from typing import Annotated

import typer

from service.api.galleries import CountedGallery, GalleryShape
from service.api.shapes import page_of
from service.cli.confirm import Yes, confirm
from service.cli.context import DEFAULT_TENANT, Tenant, asynchronous, open_context
from service.cli.encoders import SpaceName, choose_space
from service.cli.output import Json, remark, write_json, write_line, write_table
from service.cli.pages import Cursor, Limit, tell_of_more
from service.errors import InvalidRequest
from service.gallery.content import UNSET
from service.gallery.galleries import (
    create_gallery,
    delete_gallery,
    find_gallery,
    gallery_counts,
    list_galleries,
    update_gallery,
)

application = typer.Typer(help="Create, list, change and erase galleries.")

Name = Annotated[str, typer.Argument(help="The gallery's name.")]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", min=0.0, max=1.0, help="Similarity from which faces match (default: the space's)."),
]


@application.command()
@asynchronous
async def create(
    name: Name,
    *,
    embedding_space: SpaceName = None,
    threshold: Threshold = None,
    verification_only: Annotated[
        bool, typer.Option("--verification-only", help="Nobody is identified (1:N) in it, only verified (1:1).")
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Create a gallery."""
    async with open_context(tenant) as context, context.session() as session:
        space = choose_space(context.settings, embedding_space)
        gallery = await create_gallery(session, name, space, threshold, verification_only=verification_only)
        await session.commit()
    if as_json:
        write_json(GalleryShape.of(gallery))
        return
    write_line(f"Gallery {gallery.name!r} takes {gallery.space.name}; threshold {gallery.threshold:.3f}.")


@application.command("list")
@asynchronous
async def list_all(
    *, limit: Limit = 100, cursor: Cursor = None, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False
) -> None:
    """List the galleries."""
    async with open_context(tenant) as context, context.session() as session:
        page = await list_galleries(session, limit, cursor)
    if as_json:
        write_json(page_of(page, GalleryShape.of))
        return
    rows = [(found.name, found.space.name, found.threshold, found.created_at) for found in page.items]
    write_table(["name", "embedding space", "threshold", "created"], rows, "There is no gallery.")
    tell_of_more(page)


@application.command()
@asynchronous
async def show(name: Name, *, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Show a gallery and how much it holds."""
    async with open_context(tenant) as context, context.session() as session:
        gallery = await find_gallery(session, name)
        counts = await gallery_counts(session, gallery)
    if as_json:
        write_json(CountedGallery(**GalleryShape.of(gallery).model_dump(), people=counts.people, faces=counts.faces))
        return
    rows = [(gallery.name, gallery.space.name, gallery.threshold, counts.people, counts.faces, gallery.created_at)]
    write_table(["name", "embedding space", "threshold", "people", "faces", "created"], rows, "")


@application.command()
@asynchronous
async def update(
    name: Name,
    *,
    rename: Annotated[str | None, typer.Option("--rename", help="The gallery's new name.")] = None,
    threshold: Threshold = None,
    default_threshold: Annotated[
        bool, typer.Option("--default-threshold", help="Go back to the embedding space's own threshold.")
    ] = False,
    verification_only: Annotated[
        bool | None,
        typer.Option("--verification-only/--identification", help="Whether nobody is identified (1:N) in it."),
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Rename a gallery, change its threshold or its use."""
    if threshold is not None and default_threshold:
        raise InvalidRequest("--threshold and --default-threshold exclude each other")
    new = UNSET if threshold is None and not default_threshold else threshold
    async with open_context(tenant) as context, context.session() as session:
        found = await find_gallery(session, name)
        gallery = await update_gallery(session, found, name=rename, threshold=new, verification_only=verification_only)
        await session.commit()
    if as_json:
        write_json(GalleryShape.of(gallery))
        return
    write_line(f"Gallery {gallery.name!r}: threshold {gallery.threshold:.3f}.")


@application.command()
@asynchronous
async def delete(name: Name, *, yes: Yes = False, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Erase a gallery with all its people and faces."""
    async with open_context(tenant) as context, context.session() as session:
        counts = await gallery_counts(session, await find_gallery(session, name))
        await session.rollback()
        confirm(f"Erase gallery {name!r} with {counts.people} people and {counts.faces} faces?", yes)
        await delete_gallery(session, await find_gallery(session, name))
        await session.commit()
    if as_json:
        write_json({"deleted": name})
        return
    write_line(f"Gallery {name!r} is erased.")
    remark(f"It held {counts.people} people and {counts.faces} faces.")
