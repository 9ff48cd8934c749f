"""The gallery that a command adds to: made where it is missing, refused where its embedding space is another."""

from service.cli.context import CommandContext
from service.cli.encoders import choose_space
from service.embedding import EmbeddingSpace
from service.errors import Conflict, EmbeddingSpaceMismatch, NotFound
from service.gallery.galleries import Gallery, create_gallery, find_gallery


async def gallery_to_fill(context: CommandContext, name: str, space_name: str | None) -> Gallery:
    """The gallery of that name; `space_name` is the space of a new one, and what is expected of an old one."""
    async with context.session() as session:
        try:
            gallery = await find_gallery(session, name)
        except NotFound:
            return await _make(context, name, choose_space(context.settings, space_name))
    if space_name is not None:
        asked = choose_space(context.settings, space_name)
        if asked.digest != gallery.space.digest:
            raise EmbeddingSpaceMismatch(f"gallery {name!r} is of {gallery.space.name}, not of {asked.name}")
    return gallery


async def _make(context: CommandContext, name: str, space: EmbeddingSpace) -> Gallery:
    """A new gallery, or the one that another process made a moment ago."""
    try:
        async with context.session() as session:
            gallery = await create_gallery(session, name, space)
            await session.commit()
            return gallery
    except Conflict:
        async with context.session() as session:
            return await find_gallery(session, name)
