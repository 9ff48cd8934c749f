"""The embedding space behind a name, and whether a gallery of that space accepts images."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from service.database.names import canonical_name
from service.embedding import EmbeddingSpace, external_space
from service.encoder.encoders import Encoders
from service.errors import EmbeddingSpaceMismatch, EncoderUnavailable, InvalidRequest, NotFound, UnknownEncoder
from service.gallery.galleries import Gallery, find_gallery

MAXIMUM_GALLERIES = 20
"""Galleries of one recognition. Each costs a lookup and a search, and a request must stay short."""


def resolve_space(encoders: Encoders, name: str | None) -> EmbeddingSpace:
    """The space of a loaded encoder (None: the default) or of `external:LABEL:DIMENSION`. Raises UnknownEncoder for
    other names.
    """
    if name is None:
        return encoders.default
    try:
        return external_space(name) or encoders.space(name)
    except EncoderUnavailable as error:
        raise UnknownEncoder(error.detail) from None


async def find_gallery_for_pictures(session: AsyncSession, name: str) -> Gallery:
    """The gallery. Raises EmbeddingSpaceMismatch if its embeddings are made elsewhere, because it then accepts no
    images.
    """
    gallery = await find_gallery(session, name)
    if gallery.space.is_external:
        raise EmbeddingSpaceMismatch(
            f"gallery {name!r} holds embeddings made elsewhere ({gallery.space.name}): send an embedding, "
            "because no encoder of this server makes embeddings that can be compared with them"
        )
    return gallery


async def find_galleries(session: AsyncSession, names: Sequence[str], *, for_pictures: bool) -> list[Gallery]:
    """The galleries of these names, each once, in this order.

    Raises InvalidRequest for none or more than 20, NotFound if one does not exist, EmbeddingSpaceMismatch if they
    belong to several embedding spaces or, `for_pictures`, if their embeddings are made elsewhere.
    """
    distinct = list(dict.fromkeys(map(canonical_name, names)))
    if not 1 <= len(distinct) <= MAXIMUM_GALLERIES:
        raise InvalidRequest(f"gallery: {len(distinct)} galleries given, 1 to {MAXIMUM_GALLERIES} are allowed")
    find = find_gallery_for_pictures if for_pictures else find_gallery
    galleries = [await find(session, name) for name in distinct]
    if len({gallery.space.digest for gallery in galleries}) > 1:
        spaces = ", ".join(f"{gallery.name!r} ({gallery.space.name})" for gallery in galleries)
        raise EmbeddingSpaceMismatch(f"the galleries belong to several embedding spaces: {spaces}")
    return galleries


async def find_same_gallery(session: AsyncSession, gallery: Gallery) -> Gallery:
    """Look up the gallery again after inference. Raises NotFound if it was deleted meanwhile."""
    found = await find_gallery(session, gallery.name)
    if found.id != gallery.id:
        raise NotFound(f"gallery {gallery.name!r} was deleted")
    return found
