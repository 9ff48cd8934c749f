"""The encoder that a command uses, and the gallery that a command adds to.

The encoder is the one named on the command line, else the gallery's own, else the first of ENCODER.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.context import CommandContext
from service.encoder.kinds import ENCODER_KINDS
from service.errors import Conflict, EmbeddingSpaceMismatch, NotFound

if TYPE_CHECKING:
    from service.embedding import EmbeddingSpace
    from service.encoder.encoders import Encoders
    from service.gallery.galleries import Gallery
    from service.settings import Settings

_ENCODERS = " | ".join(kind.usage for kind in ENCODER_KINDS)
EncoderName = Annotated[
    str | None,
    typer.Option("--encoder", "-e", help=f"{_ENCODERS} (default: the first of ENCODER)."),
]
SpaceName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        "--embedding-space",
        "-e",
        help=f"{_ENCODERS} | external:LABEL:DIMENSION (default: the first of ENCODER).",
    ),
]


@contextlib.contextmanager
def encoders_named(settings: "Settings", name: str | None) -> "Iterator[Encoders]":
    """Open only the encoder of that name; None: those of ENCODER. Models load at their first use."""
    from service.encoder.opening import open_encoders

    encoders = open_encoders(settings if name is None else settings.model_copy(update={"encoder": [name]}))
    try:
        yield encoders
    finally:
        encoders.close()


@contextlib.contextmanager
def encoders_for(settings: "Settings", space: "EmbeddingSpace") -> "Iterator[Encoders]":
    """Open encoders that include the encoder of `space`, even if ENCODER does not name it."""
    with encoders_named(settings, None) as encoders:
        if space.is_external or any(loaded.digest == space.digest for loaded in encoders.spaces):
            yield encoders
            return
    with encoders_named(settings, space.name) as encoders:
        yield encoders


def choose_space(settings: "Settings", name: str | None) -> "EmbeddingSpace":
    """The embedding space of a new gallery: the space of an encoder, or an external one."""
    from service.embedding import external_space

    if name is not None and (external := external_space(name)) is not None:
        return external
    with encoders_named(settings, name) as encoders:
        return encoders.default


@contextlib.asynccontextmanager
async def gallery_to_fill(context: CommandContext, name: str, space_name: str | None) -> "AsyncIterator[Gallery]":
    """Find or create the gallery that a command adds to. A gallery that is new and still empty at the end is deleted.

    `space_name` is the embedding space of a new gallery. Raises EmbeddingSpaceMismatch if it is given and an existing
    gallery belongs to another space.
    """
    try:
        gallery = await _existing_gallery(context, name, space_name)
    except NotFound:
        async with _new_gallery(context, name, choose_space(context.settings, space_name)) as gallery:
            yield gallery
        return
    yield gallery


async def _existing_gallery(context: CommandContext, name: str, space_name: str | None) -> "Gallery":
    from service.gallery.galleries import find_gallery

    async with context.session() as session:
        gallery = await find_gallery(session, name)
    if space_name is not None:
        space = choose_space(context.settings, space_name)
        if space.digest != gallery.space.digest:
            raise EmbeddingSpaceMismatch(f"gallery {name!r} belongs to {gallery.space.name}, not to {space.name}")
    return gallery


@contextlib.asynccontextmanager
async def _new_gallery(context: CommandContext, name: str, space: "EmbeddingSpace") -> "AsyncIterator[Gallery]":
    from service.gallery.galleries import delete_empty_gallery

    gallery = await _create_gallery(context, name, space)
    try:
        yield gallery
    finally:
        async with context.session() as session:
            await delete_empty_gallery(session, gallery)
            await session.commit()


async def _create_gallery(context: CommandContext, name: str, space: "EmbeddingSpace") -> "Gallery":
    """Create the gallery, or find it if another process created it a moment ago."""
    from service.gallery.galleries import create_gallery, find_gallery

    try:
        async with context.session() as session:
            gallery = await create_gallery(session, name, space)
            await session.commit()
            return gallery
    except Conflict:
        async with context.session() as session:
            return await find_gallery(session, name)
