"""The loaded encoders for asynchronous callers: models work in threads, never on the event loop.

It hides which encoder gives an embedding space and how many threads work at a time.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from service.embedding import EmbeddingSpace
from service.encoder.contract import DetectedFace, EncodedFace, Encoder, Image
from service.encoder.images import ImageLimits, decode_image
from service.encoder.processors import usable_processors
from service.errors import EmbeddingSpaceMismatch, EncoderUnavailable

T = TypeVar("T")


class Encoders:
    """Every encoder of ENCODER, in its order. Close it when the program ends."""

    def __init__(self, encoders: Sequence[Encoder], limits: ImageLimits, maximum_faces: int) -> None:
        self._encoders = tuple(encoders)
        self._limits = limits
        self._maximum_faces = maximum_faces
        self._threads = ThreadPoolExecutor(usable_processors(), thread_name_prefix="encoder")

    @property
    def spaces(self) -> tuple[EmbeddingSpace, ...]:
        """The embedding spaces, in the order of ENCODER."""
        return tuple(encoder.space for encoder in self._encoders)

    @property
    def default(self) -> EmbeddingSpace:
        """The space of galleries that name none: the first of ENCODER."""
        return self._encoders[0].space

    def space(self, name: str) -> EmbeddingSpace:
        """The space of the encoder called `name` as in ENCODER; EncoderUnavailable names it and what is loaded."""
        for space in self.spaces:
            if space.name == name or _same_folder(space.name, name):
                return space
        raise EncoderUnavailable(f"{name} is not loaded; loaded are: {self._names()}")

    async def decode(self, data: bytes) -> Image:
        """The upright picture of an uploaded file, with the limits of the settings."""
        return await self._in_thread(lambda: decode_image(data, self._limits))

    async def detect(self, space: EmbeddingSpace, image: bytes | Image) -> list[DetectedFace]:
        """Every face in the picture, largest first."""
        encoder = self._encoder(space)
        return await self._in_thread(lambda: encoder.detect(self._pixels(image)))

    async def encode(
        self, space: EmbeddingSpace, image: bytes | Image, *, maximum_faces: int | None = None
    ) -> list[EncodedFace]:
        """The largest faces with their embeddings, largest first; empty where there is no face."""
        encoder = self._encoder(space)
        most = self._maximum_faces if maximum_faces is None else maximum_faces
        return await self._in_thread(lambda: _encode(encoder, self._pixels(image), most))

    def load(self) -> None:
        """Load every model now, so that the first request need not wait. Blocks."""
        for encoder in self._encoders:
            encoder.load()

    def close(self) -> None:
        """Wait for work under way, then let go of threads and models."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for encoder in self._encoders:
            encoder.close()

    def _encoder(self, space: EmbeddingSpace) -> Encoder:
        """By digest: a folder may be spelled differently today."""
        for encoder in self._encoders:
            if encoder.space.digest == space.digest:
                return encoder
        for loaded in self.spaces:
            if loaded.name == space.name or _same_folder(loaded.name, space.name):
                raise EmbeddingSpaceMismatch(
                    f"made with {space.name} (digest {space.digest[:12]}), "
                    f"but the loaded one has digest {loaded.digest[:12]}"
                )
        raise EncoderUnavailable(
            f"{space.name} (digest {space.digest[:12]}) is not loaded; loaded are: {self._names()}"
        )

    def _names(self) -> str:
        return ", ".join(f"{space.name} (digest {space.digest[:12]})" for space in self.spaces)

    def _pixels(self, image: bytes | Image) -> Image:
        return decode_image(image, self._limits) if isinstance(image, bytes) else image

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _encode(encoder: Encoder, image: Image, maximum_faces: int) -> list[EncodedFace]:
    faces = encoder.detect(image)[:maximum_faces]
    embeddings = encoder.embed(encoder.align(image, faces)) if faces else []
    return [EncodedFace(face, embedding) for face, embedding in zip(faces, embeddings, strict=True)]


def _same_folder(one: str, other: str) -> bool:
    kind, _, first = one.partition(":")
    other_kind, _, second = other.partition(":")
    if kind != other_kind or not first or not second:
        return False
    return Path(first).expanduser().resolve() == Path(second).expanduser().resolve()
