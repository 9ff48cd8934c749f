"""The embeddings of people's images. An image without a usable face is reported with its name and the reason."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.encoders import Encoders
from service.errors import ImageTooLarge, NoFaceFound, UnreadableImage, UnsupportedImageFormat
from service.identity.people_folders import ImageFile, PeopleFolders, read_image_file


@dataclass(frozen=True)
class EncodedPortraits:
    """A person's embeddings, at least one, each with the name of its image."""

    name: str
    embeddings: tuple[tuple[str, Embedding], ...]


@dataclass(frozen=True)
class Failure:
    """An image without a usable face. `reason` is the slug of an error."""

    image: str
    reason: str


async def encode_portraits(
    encoders: Encoders,
    space: EmbeddingSpace,
    folders: PeopleFolders,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[EncodedPortraits], list[Failure]]:
    """The largest face of every image. People without a usable image are left out."""
    encoded: list[EncodedPortraits] = []
    failures = [Failure(file.shown, file.kind.slug) for file in folders.rejected]
    done, total = 0, sum(map(len, folders.people.values()))
    for name, images in folders.people.items():
        embeddings: list[tuple[str, Embedding]] = []
        for image in images:
            result = await _encode(encoders, space, image)
            if isinstance(result, Failure):
                failures.append(result)
            else:
                embeddings.append((image.shown, result))
            done += 1
            if progress is not None:
                progress(done, total)
        if embeddings:
            encoded.append(EncodedPortraits(name, tuple(embeddings)))
    return encoded, failures


async def _encode(encoders: Encoders, space: EmbeddingSpace, image: ImageFile) -> Embedding | Failure:
    try:
        data = await asyncio.to_thread(read_image_file, image.path)
        faces = await encoders.encode(space, data, maximum_faces=1, bulk=True)
    except (UnreadableImage, UnsupportedImageFormat, ImageTooLarge) as error:
        return Failure(image.shown, error.slug)
    return faces[0].embedding if faces else Failure(image.shown, NoFaceFound.slug)
