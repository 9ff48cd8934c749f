"""The recognizer as a module: faces in arrays, without a server and without a database.

`from face_identity import Recognizer`. docs/as-a-module.md has examples.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.contract import DetectedFace, EncodedFace, Image
from service.encoder.images.decode import ImageLimits
from service.encoder.images.pictures import ImageInput, list_pictures, read_picture, shown_picture
from service.encoder.opening import load_encoder
from service.errors import InvalidSettings, NoFaceFound, ServiceError, SeveralFaces, UnreadableImage
from service.gallery.content import check_name
from service.identity.decision import check_threshold
from service.identity.enroll import Several, largest_is_meant
from service.identity.in_memory import References, RejectedPicture, read_references
from service.identity.review import Review
from service.identity.verify import similarity_of
from service.settings_sources import load_module_settings


@dataclass(frozen=True)
class RecognizedFace:
    """A face and its person. `name` is None if no reference matches.

    `similarity` (0 to 1) is that of the most similar reference. If the face is useless, `reason` says why, such as
    `face-badly-lit`: it is compared with nobody, and the similarity is 0.
    """

    face: DetectedFace
    name: str | None
    similarity: float
    reason: str | None = None


@dataclass(frozen=True)
class VerifiedFace:
    """The largest face of a picture, and whether it is the named person: `similarity` reaches `threshold`."""

    face: DetectedFace
    is_match: bool
    similarity: float
    threshold: float


@dataclass(frozen=True)
class ComparedFaces:
    """The largest faces of two pictures, and whether they are one person: `similarity` reaches `threshold`."""

    first: DetectedFace
    second: DetectedFace
    is_match: bool
    similarity: float
    threshold: float


class Recognizer:
    """One encoder. Several threads may use it at a time. Close it, or use it in a `with` statement.

    A picture is a path, the content of an image file, an open file, an image of Pillow, or an array of uint8 and shape
    (height, width, 3), RGB. Anything else is a TypeError.
    """

    def __init__(
        self, encoder: str | None = None, *, detection_device: int | None = None, recognition_device: int | None = None
    ) -> None:
        """`encoder` is a value of ENCODER. A device is -1 for the CPU or 0..N for a GPU. None takes the setting."""
        devices = {"detector_load_device": detection_device, "recognizer_load_device": recognition_device}
        settings = load_module_settings(**devices)
        if encoder is None and not settings.encoder:
            raise InvalidSettings("ENCODER names no encoder")
        self._encoder = load_encoder(settings.encoder[0] if encoder is None else encoder, settings)
        self._review = Review(settings.enrollment_review, settings.recognition_review)
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

    def enroll(
        self, people: Mapping[str, Iterable[ImageInput] | ImageInput], *, several: Several = "reject"
    ) -> References:
        """One face of each picture. `rejected` of the result lists the pictures that cannot be used, with the reason.

        A picture with several faces of similar size is rejected, unless `several` is "largest". Raises the first
        reason, which names the person and the index of the picture, if no picture at all can be used.
        """
        named: list[tuple[str, Embedding]] = []
        rejected: list[RejectedPicture] = []
        errors: list[ServiceError] = []
        for name, pictures in people.items():
            label = check_name(name, "name")
            for index, picture in enumerate(list_pictures(pictures)):
                try:
                    named.append((label, self._face_to_enroll(picture, several).embedding))
                except (ServiceError, OSError) as error:
                    errors.append(_readable(error))
                    rejected.append(_rejected(label, index, picture, errors[-1]))
        if rejected and not named:
            raise type(errors[0])(_first_rejection(rejected[0]))
        return replace(References.of(self.space, named), rejected=tuple(rejected))

    def read_references(self, path: str | os.PathLike[str]) -> References:
        """The references in a file of `References.save` or a dataset file of any format. Raises InvalidDataset, which
        names the row.
        """
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
        least = self._threshold(threshold)
        nearest = references.nearest(probes)
        names = references.vote(probes) if legacy_vote else [name if near >= least else None for name, near in nearest]
        objections = [self._review.of_probe(face.face, self.space.name) for face in encoded]
        return [
            RecognizedFace(face.face, None, 0.0, refused.reason)
            if refused
            else RecognizedFace(face.face, name or None, near)
            for face, name, (_, near), refused in zip(encoded, names, nearest, objections, strict=True)
        ]

    def verify(
        self, picture: ImageInput, name: str, references: References, *, threshold: float | None = None
    ) -> VerifiedFace:
        """Whether the largest face is that person, by the person's most similar reference (1:1).

        Raises NoFaceFound, NotFound if no reference has that name, or the reason for which the face is useless, such as
        FaceBadlyLit.
        """
        references.check_space(self.space)
        own = references.of_person(name)
        encoded = self._largest_face(picture, "the picture")
        ((_, similarity),) = own.nearest([encoded.embedding])
        least = self._threshold(threshold)
        return VerifiedFace(encoded.face, similarity >= least, similarity, least)

    def compare(self, first: ImageInput, second: ImageInput, *, threshold: float | None = None) -> ComparedFaces:
        """Whether the largest faces of two pictures are one person. Raises NoFaceFound, or the reason for which a face
        is useless, such as FaceBadlyLit. The error names the picture.
        """
        one, other = self._largest_face(first, "the first picture"), self._largest_face(second, "the second picture")
        similarity = similarity_of(self.space, one.embedding, other.embedding)
        least = self._threshold(threshold)
        return ComparedFaces(one.face, other.face, similarity >= least, similarity, least)

    def close(self) -> None:
        """Release the models."""
        self._encoder.close()

    def __enter__(self) -> "Recognizer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _face_to_enroll(self, picture: ImageInput, several: Several) -> EncodedFace:
        """The face that a picture adds. Raises NoFaceFound, SeveralFaces, or the reason for which it is useless."""
        faces = self.encode(picture)
        if not faces:
            raise NoFaceFound("the image shows no face")
        if several == "reject" and not largest_is_meant([face.face for face in faces]):
            raise SeveralFaces("the image shows several faces of similar size")
        if objection := self._review.of_reference(faces[0].face, self.space.name):
            raise objection.kind(objection.detail)
        return faces[0]

    def _largest_face(self, picture: ImageInput, which: str) -> EncodedFace:
        faces = self.encode(picture)
        if not faces:
            raise NoFaceFound(f"no face was found in {which}")
        if objection := self._review.of_probe(faces[0].face, self.space.name):
            raise objection.kind(f"{which}: {objection.detail}")
        return faces[0]

    def _threshold(self, threshold: float | None) -> float:
        return check_threshold(threshold, self.space.threshold)

    def _pixels(self, picture: ImageInput) -> Image:
        return read_picture(picture, self._limits)


def _readable(error: ServiceError | OSError) -> ServiceError:
    """The error of a file that cannot be opened, as one of the catalogue."""
    if isinstance(error, ServiceError):
        return error
    return UnreadableImage(error.strerror or type(error).__name__)


def _rejected(name: str, index: int, picture: object, error: ServiceError) -> RejectedPicture:
    return RejectedPicture(name, index, shown_picture(picture), error.slug, error.detail or error.title)


def _first_rejection(rejected: RejectedPicture) -> str:
    path = f" ({rejected.path})" if rejected.path else ""
    return f"image {rejected.index} (counted from 0) of {rejected.name!r}{path}: {rejected.detail}"
