"""The loaded encoders for asynchronous callers.

`Encoders` finds the encoder of an embedding space and runs images through it. Models run in threads, never on the
event loop (`runtime/pipeline`). Too many images at a time are refused (`runtime/backpressure`).
"""

import copy
from collections.abc import Sequence
from pathlib import Path

from service.embedding import EmbeddingSpace
from service.encoder.contract import DetectedFace, EncodedFace, Encoder, Image
from service.encoder.images.decode import ImageLimits
from service.encoder.runtime.backpressure import QueueState, Reservation
from service.encoder.runtime.pipeline import Pipeline, StageSeconds
from service.encoder.runtime.pixel_budget import budget_for
from service.encoder.runtime.processors import RunCounter, usable_processors
from service.errors import EmbeddingSpaceMismatch, EncoderUnavailable


class Encoders:
    """Every encoder of ENCODER, in order. Close it when the program ends.

    Methods that take an image raise the errors of decode_image, and Overloaded if too many images wait. `bulk` work is
    never refused, but waits behind other work. If the caller is canceled, the remaining steps are skipped.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        limits: ImageLimits,
        maximum_faces: int,
        threads: int | None = None,
        runs: RunCounter | None = None,
        *,
        budget_pixels: int | None = None,
    ) -> None:
        """`runs` is the counter that the devices of the encoders share. `budget_pixels` is the number of decoded pixels
        in memory at a time; None: see `budget_for`.
        """
        self._encoders = tuple(encoders)
        self._slot: Reservation | None = None
        self._maximum_faces = maximum_faces
        threads = threads or usable_processors()
        budget_pixels = budget_pixels or budget_for(limits.pixels, threads)
        self._pipeline = Pipeline(self._encoders, limits, threads, runs or RunCounter(), budget_pixels)

    @property
    def spaces(self) -> tuple[EmbeddingSpace, ...]:
        """The embedding spaces, in the order of ENCODER."""
        return tuple(encoder.space for encoder in self._encoders)

    @property
    def default(self) -> EmbeddingSpace:
        """The default space of new galleries: the first of ENCODER."""
        return self._encoders[0].space

    def space(self, name: str) -> EmbeddingSpace:
        """The space of the encoder `name`, spelled as in ENCODER. Raises EncoderUnavailable, which lists the loaded
        ones.
        """
        for space in self.spaces:
            if space.name == name or _same_folder(space.name, name):
                return space
        raise EncoderUnavailable(f"{name} is not loaded; loaded are: {self._names()}")

    async def decode(self, data: bytes, *, bulk: bool = False) -> Image:
        """The upright pixels of an uploaded file, within the limits of the settings."""
        return await self._pipeline.decode(data, bulk=bulk, slot=self._slot)

    async def detect(self, space: EmbeddingSpace, image: bytes | Image, *, bulk: bool = False) -> list[DetectedFace]:
        """Every face in the image, largest first."""
        return await self._pipeline.detect(self._encoder(space), image, bulk=bulk, slot=self._slot)

    async def encode(
        self,
        space: EmbeddingSpace,
        image: bytes | Image,
        *,
        maximum_faces: int | None = None,
        bulk: bool = False,
    ) -> list[EncodedFace]:
        """The largest faces with their embeddings, largest first. Empty if there is no face."""
        most = self._maximum_faces if maximum_faces is None else maximum_faces
        return await self._pipeline.encode(self._encoder(space), image, most, bulk=bulk, slot=self._slot)

    async def embed(
        self, space: EmbeddingSpace, image: Image, faces: Sequence[DetectedFace], *, bulk: bool = False
    ) -> list[EncodedFace]:
        """The embeddings of faces that `detect` found in the same image, in their order. Empty without faces."""
        return await self._pipeline.embed(self._encoder(space), image, faces, bulk=bulk) if faces else []

    def reserve_slot(self) -> Reservation:
        """Reserve a slot for an image of the acting tenant before its upload is read. Raises Overloaded if it would be
        refused now.

        The slot stays reserved for 0.1 s. Use it as a context manager around the request, and encode the image by
        `with_slot`.
        """
        return self._pipeline.reserve_slot()

    def with_slot(self, slot: Reservation) -> "Encoders":
        """These encoders for one request: its first image that is not bulk work uses `slot`.

        The copy shares threads, queue and models. Functions that run models take encoders already, so the reservation
        needs no parameter of its own in each of them.
        """
        of_request = copy.copy(self)
        of_request._slot = slot
        return of_request

    def current_load(self) -> QueueState:
        """Images running, waiting and refused."""
        return self._pipeline.load()

    def stages(self) -> StageSeconds:
        """Images and faces since the start, and the thread seconds of each stage."""
        return self._pipeline.stages()

    def check_memory(self) -> None:
        """Raises OutOfMemory if the last image failed for lack of memory and the memory is still missing."""
        self._pipeline.check_memory()

    def load(self) -> None:
        """Load every model now, so that the first request is not slow. Blocks."""
        for encoder in self._encoders:
            encoder.load()

    def close(self) -> None:
        """Wait for running work, then release threads and models."""
        self._pipeline.close()
        for encoder in self._encoders:
            encoder.close()

    def _encoder(self, space: EmbeddingSpace) -> Encoder:
        """The encoder of a space, found by digest, because the path of a folder may be spelled differently."""
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


def _same_folder(one: str, other: str) -> bool:
    kind, _, first = one.partition(":")
    other_kind, _, second = other.partition(":")
    if kind != other_kind or not first or not second:
        return False
    return Path(first).expanduser().resolve() == Path(second).expanduser().resolve()
