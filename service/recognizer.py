"""The recognizer as a module: faces in arrays, without a server and without a database.

`from face_identity import Recognizer`. docs/as-a-module.md has examples.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from service.embedding import EmbeddingSpace
from service.encoder.contract import DetectedFace, EncodedFace, Image
from service.encoder.images.decode import ImageLimits, decode_image
from service.encoder.opening import load_encoder
from service.errors import InvalidRequest, InvalidSettings, NoFaceFound
from service.identity.in_memory import References, read_references
from service.settings import load_module_settings

ImageInput = Image | bytes | Path
"""Pixels of shape (height, width, 3), RGB, uint8; or an image file, as its content or its path."""


@dataclass(frozen=True)
class RecognizedFace:
    """A face and its person. `name` is None if no reference matches.

    `similarity` (0 to 1) is that of the most similar reference.
    """

    face: DetectedFace
    name: str | None
    similarity: float


class Recognizer:
    """One encoder. Several threads may use it at a time. Close it, or use it in a `with` statement."""

    def __init__(
        self, encoder: str | None = None, *, detection_device: int | None = None, recognition_device: int | None = None
    ) -> None:
        """`encoder` is a value of ENCODER. A device is -1 for the CPU or 0..N for a GPU. None takes the setting."""
        devices = {"detector_load_device": detection_device, "recognizer_load_device": recognition_device}
        settings = load_module_settings(**devices)
        if encoder is None and not settings.encoder:
            raise InvalidSettings("ENCODER names no encoder")
        self._encoder = load_encoder(settings.encoder[0] if encoder is None else encoder, settings)
        self._limits = ImageLimits(settings.maximum_image_bytes, settings.maximum_image_pixels)

    @property
    def space(self) -> EmbeddingSpace:
        """The embedding space of all embeddings of this recognizer."""
        return self._encoder.space

    def detect(self, picture: ImageInput) -> list[DetectedFace]:
        """Every face, largest first."""
        return self._encoder.detect(self._pixels(picture))

    def encode(self, picture: ImageInput) -> list[EncodedFace]:
        """Every face with its embedding, float32 of shape (dimension,), largest first."""
        pixels = self._pixels(picture)
        faces = self._encoder.detect(pixels)
        embeddings = self._encoder.embed(self._encoder.align(pixels, faces)) if faces else []
        return [EncodedFace(face, embedding) for face, embedding in zip(faces, embeddings, strict=True)]

    def enroll(self, people: Mapping[str, Iterable[ImageInput]]) -> References:
        """The largest face of each image. Raises NoFaceFound, which names the person and the index of the image."""
        named = []
        for name, pictures in people.items():
            for index, picture in enumerate(pictures):
                faces = self.encode(picture)
                if not faces:
                    raise NoFaceFound(f"image {index} (counted from 0) of {name!r} shows no face")
                named.append((name, faces[0].embedding))
        return References.of(self.space, named)

    def read_references(self, path: str | Path) -> References:
        """The references in a dataset file of any format. Raises InvalidDataset, which names the row."""
        return read_references(Path(path), self.space)

    def recognize(
        self, picture: ImageInput, references: References, *, threshold: float | None = None, legacy_vote: bool = False
    ) -> list[RecognizedFace]:
        """The person of each face, largest first: the nearest reference if it reaches `threshold` (None: the default of
        the space).

        `legacy_vote` decides as the legacy recognizer did: for the name with the most references of cosine above 0.3.
        """
        references.check_space(self.space)
        encoded = self.encode(picture)
        probes = [face.embedding for face in encoded]
        least = self.space.threshold if threshold is None else threshold
        nearest = references.nearest(probes)
        names = references.vote(probes) if legacy_vote else [name if near >= least else None for name, near in nearest]
        return [
            RecognizedFace(face.face, name or None, near)
            for face, name, (_, near) in zip(encoded, names, nearest, strict=True)
        ]

    def close(self) -> None:
        """Release the models."""
        self._encoder.close()

    def __enter__(self) -> "Recognizer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pixels(self, picture: ImageInput) -> Image:
        if isinstance(picture, Path):
            picture = picture.read_bytes()
        if isinstance(picture, bytes):
            return decode_image(picture, self._limits)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise InvalidRequest(
                f"an image must be an array of uint8 and shape (height, width, 3), RGB; this one is {picture.dtype} "
                f"of shape {picture.shape}"
            )
        return np.ascontiguousarray(picture)
