"""`face-identity galleries`: a tenant's galleries, each belonging to one embedding space."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.context import asynchronous, open_context, open_gallery, open_session
from service.cli.encoders import SpaceName, choose_space
from service.cli.options import DEFAULT_TENANT, Cursor, Limit, TenantName, Yes, confirm, tell_next_page
from service.cli.output import Json, remark, write_json, write_line, write_table
from service.errors import InvalidRequest

if TYPE_CHECKING:
    from service.gallery.galleries import Gallery

application = typer.Typer(help="Create, list, change and erase galleries.")

Name = Annotated[str, typer.Argument(help="The gallery's name.")]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        min=0.0,
        max=1.0,
        help="Similarity from which faces match (default: the space's).",
    ),
]


@application.command()
@asynchronous
async def create(
    name: Name,
    *,
    embedding_space: SpaceName = None,
    threshold: Threshold = None,
    verification_only: Annotated[
        bool,
        typer.Option("--verification-only", help="Allow verification (1:1) only, no identification."),
    ] = False,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Create a gallery."""
    from service.gallery.galleries import create_gallery

    async with open_context(tenant) as context, context.session() as session:
        space = choose_space(context.settings, embedding_space)
        gallery = await create_gallery(session, name, space, threshold, verification_only=verification_only)
        await session.commit()
    if as_json:
        from service.api.galleries import GalleryShape

        write_json(GalleryShape.of(gallery))
        return
    write_line(f"Gallery {gallery.name!r}: {gallery.space.name}, threshold {gallery.threshold:.3f}.")


@application.command("list")
@asynchronous
async def list_all(
    *, limit: Limit = 100, cursor: Cursor = None, tenant: TenantName = DEFAULT_TENANT, as_json: Json = False
) -> None:
    """List the galleries and the number of their people and faces."""
    from service.gallery.galleries import list_galleries

    async with open_session(tenant) as session:
        page = await list_galleries(session, limit, cursor)
    if as_json:
        from service.api.galleries import CountedGallery
        from service.api.shapes import page_of

        write_json(page_of(page, CountedGallery.of_counted))
        return
    write_table(_HEADINGS, [_row(gallery) for gallery in page.items], "There are no galleries.")
    tell_next_page(page)


@application.command()
@asynchronous
async def show(name: Name, *, tenant: TenantName = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Show a gallery and the number of its people and faces."""
    from service.gallery.galleries import gallery_counts

    async with open_gallery(tenant, name) as (session, gallery):
        counts = await gallery_counts(session, gallery)
    if as_json:
        from service.api.galleries import CountedGallery, GalleryShape

        write_json(CountedGallery(**GalleryShape.of(gallery).model_dump(), people=counts.people, faces=counts.faces))
        return
    write_table(_HEADINGS, [_row(replace(gallery, people=counts.people, faces=counts.faces))], "")


@application.command()
@asynchronous
async def update(
    name: Name,
    *,
    rename: Annotated[str | None, typer.Option("--rename", help="The gallery's new name.")] = None,
    threshold: Threshold = None,
    default_threshold: Annotated[
        bool, typer.Option("--default-threshold", help="Use the threshold of the embedding space again.")
    ] = False,
    verification_only: Annotated[
        bool | None,
        typer.Option("--verification-only/--identification", help="Allow verification (1:1) only, or both."),
    ] = None,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Rename a gallery, change its threshold or its use."""
    from service.gallery.content import UNSET
    from service.gallery.galleries import update_gallery

    if threshold is not None and default_threshold:
        raise InvalidRequest("give either --threshold or --default-threshold, not both")
    new = UNSET if threshold is None and not default_threshold else threshold
    async with open_gallery(tenant, name) as (session, gallery):
        changed = await update_gallery(
            session, gallery, name=rename, threshold=new, verification_only=verification_only
        )
        await session.commit()
    if as_json:
        from service.api.galleries import GalleryShape

        write_json(GalleryShape.of(changed))
        return
    write_line(f"Gallery {changed.name!r}: threshold {changed.threshold:.3f}.")


@application.command()
@asynchronous
async def delete(name: Name, *, yes: Yes = False, tenant: TenantName = DEFAULT_TENANT, as_json: Json = False) -> None:
    """Erase a gallery with all its people and faces."""
    from service.gallery.galleries import delete_gallery, find_gallery, gallery_counts

    async with open_gallery(tenant, name) as (session, gallery):
        counts = await gallery_counts(session, gallery)
        await session.rollback()  # hold no connection while the user decides
        confirm(f"Erase gallery {name!r} with {counts.people} people and {counts.faces} faces?", yes)
        await delete_gallery(session, await find_gallery(session, name))
        await session.commit()
    if as_json:
        write_json({"deleted": name})
        return
    write_line(f"Gallery {name!r} is erased.")
    remark(f"It contained {counts.people} people and {counts.faces} faces.")


_HEADINGS = ["name", "embedding space", "threshold", "people", "faces", "created"]


def _row(gallery: "Gallery") -> list[object]:
    return [
        *(gallery.name, gallery.space.name, gallery.threshold),
        *(gallery.people, gallery.faces, gallery.created_at),
    ]
