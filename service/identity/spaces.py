"""Which embedding space a name means, and whether a gallery's space takes pictures."""

from sqlalchemy.ext.asyncio import AsyncSession

from service.embedding import EmbeddingSpace, external_space
from service.encoder.encoders import Encoders
from service.errors import EmbeddingSpaceMismatch, EncoderUnavailable, NotFound, UnknownEncoder
from service.gallery.galleries import Gallery, find_gallery


def resolve_space(encoders: Encoders, name: str | None) -> EmbeddingSpace:
    """The space of a loaded encoder (None: the default) or of `external:LABEL:DIMENSION`; else UnknownEncoder."""
    if name is None:
        return encoders.default
    try:
        return external_space(name) or encoders.space(name)
    except EncoderUnavailable as error:
        raise UnknownEncoder(error.detail) from None


async def find_gallery_for_pictures(session: AsyncSession, name: str) -> Gallery:
    """The gallery; EmbeddingSpaceMismatch where its embeddings are made elsewhere, so that it takes no pictures."""
    gallery = await find_gallery(session, name)
    if gallery.space.is_external:
        raise EmbeddingSpaceMismatch(
            f"gallery {name!r} holds embeddings made elsewhere ({gallery.space.name}): send an embedding, "
            "for no encoder here could make one of a picture that may be compared with them"
        )
    return gallery


async def find_same_gallery(session: AsyncSession, gallery: Gallery) -> Gallery:
    """The gallery once more after the model's work; NotFound where it was deleted meanwhile."""
    found = await find_gallery(session, gallery.name)
    if found.id != gallery.id:
        raise NotFound(f"gallery {gallery.name!r} was deleted")
    return found
