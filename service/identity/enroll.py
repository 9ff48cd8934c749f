"""Enrollment: references of a person, from images or from embeddings made elsewhere.

An image that cannot be used is rejected with a reason, and the others are enrolled. An image is enrolled once per
person, so that repeating a request adds nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.quotas import check_quota_for_one_face
from service.database.session import release_connection
from service.embedding import Embedding, EmbeddingSpace, check_embedding
from service.encoder.contract import DetectedFace, EncodedFace
from service.encoder.encoders import Encoders
from service.errors import (
    DuplicateEmbedding,
    DuplicatePicture,
    ImageTooLarge,
    InvalidRequest,
    NearerToAnotherPerson,
    NoFaceFound,
    ServiceError,
    SeveralFaces,
    UnlikeOtherReferences,
    UnreadableImage,
    UnsupportedImageFormat,
)
from service.gallery.exact_values import to_bytes
from service.gallery.faces import Face, NewFace, add_faces, list_faces
from service.gallery.galleries import Gallery, find_gallery
from service.gallery.people import Person, find_person, lock_people
from service.gallery.references import known_originals
from service.gallery.search.search import best_reference, search
from service.identity.consistency import unlike_references
from service.identity.named_person import NamedPerson, find_named_person, find_or_create_person
from service.identity.review import NO_REVIEW, Review
from service.identity.spaces import find_gallery_for_pictures, find_same_gallery

DOMINANCE = 2.0
"""Enroll the largest face only if its area is at least this many times that of the second largest."""
MAXIMUM_SOURCE_LENGTH = 500
_PAGE = 1000

Several = Literal["reject", "largest"]


@dataclass(frozen=True)
class EnrollmentImage:
    """An image file and the caller's name for it."""

    name: str
    data: bytes


@dataclass(frozen=True)
class ImageNote:
    """A note about one image: the reason is a class of the error catalogue, `detail` a sentence for people."""

    image: str
    kind: type[ServiceError]
    detail: str

    @property
    def reason(self) -> str:
        """The slug, for programs."""
        return self.kind.slug


class Rejection(ImageNote):
    """An image that was not enrolled."""


class EnrollmentWarning(ImageNote):
    """An image that was enrolled, but most likely by mistake."""


@dataclass(frozen=True)
class Enrollment:
    """The new references in the order of the images, the rejected images, and warnings about the new references."""

    faces: list[Face]
    rejected: list[Rejection]
    warnings: list[EnrollmentWarning] = field(default_factory=list)
    person: Person | None = None
    """The person of the references; None if a named person is missing and nothing was enrolled."""
    created_person: bool = False
    """Whether the person was created by this enrollment."""


@dataclass(frozen=True)
class _Encoded:
    picture: EnrollmentImage
    digest: str
    face: EncodedFace


@dataclass(frozen=True)
class _Reading:
    """How images become embeddings."""

    encoders: Encoders
    space: EmbeddingSpace
    several: Several
    review: Review
    bulk: bool


async def enroll_pictures(
    session: AsyncSession,
    encoders: Encoders,
    gallery_name: str,
    owner: str | NamedPerson,
    pictures: Sequence[EnrollmentImage],
    *,
    several: Several = "reject",
    review: Review = NO_REVIEW,
    bulk: bool = False,
) -> Enrollment:
    """Add one reference a picture; the caller commits. `owner` is the id of a person, or a person who is created if
    missing.

    The session must have no uncommitted writes: its connection goes back to the pool while the model works.
    An image of several faces is rejected, unless its largest face is at least twice as large as the next or
    `several` is "largest". `review` may reject faces. `bulk` work waits behind other work.
    """
    if not pictures:
        raise InvalidRequest("the request holds no image")
    gallery = await find_gallery_for_pictures(session, gallery_name)
    person = await _find(session, gallery, owner)
    known = await _enrolled_pictures(session, gallery, person) if person is not None else set()
    await check_quota_for_one_face(session, gallery.id)
    await release_connection(session)  # inference takes longer than any query
    encoded, rejected = await _encode_all(_Reading(encoders, gallery.space, several, review, bulk), pictures, known)
    if not encoded:
        return Enrollment([], rejected, person=person)
    return await _store(session, gallery, owner, encoded, rejected, is_strict=review.enrollment == "strict")


async def enroll_embedding(
    session: AsyncSession,
    gallery_name: str,
    owner: str | NamedPerson,
    values: Sequence[float] | npt.NDArray[np.floating],
    source: Any | None = None,
) -> Enrollment:
    """Add an embedding of the gallery's own space, shape (dimension,), as a reference. The caller commits.

    `owner` is the id of a person, or a person who is created if missing.
    """
    gallery = await find_gallery(session, gallery_name)
    check_embedding(values, gallery.space)
    person, is_new = await _find_or_create(session, gallery, owner)
    await lock_people(session, gallery, [person.number])  # an equal request at the same time waits here
    if await known_originals(session, gallery, [(person.number, to_bytes(values))]):
        raise DuplicateEmbedding(f"person {person.id!r} already has a reference of exactly these numbers")
    added = await add_faces(session, gallery, person, [NewFace(values, source)])
    warnings = await _warnings(session, gallery, person, added, ["the embedding"])
    return Enrollment(added, [], warnings, person, is_new)


async def _find(session: AsyncSession, gallery: Gallery, owner: str | NamedPerson) -> Person | None:
    """The person. Raises NotFound for an unknown id; an unknown named person is None."""
    if isinstance(owner, str):
        return await find_person(session, gallery, owner)
    return await find_named_person(session, gallery, owner)


async def _find_or_create(session: AsyncSession, gallery: Gallery, owner: str | NamedPerson) -> tuple[Person, bool]:
    """The person, and whether it was created now. Raises NotFound for an unknown id."""
    if isinstance(owner, str):
        return await find_person(session, gallery, owner), False
    return await find_or_create_person(session, gallery, owner)


async def _encode_all(
    reading: _Reading, pictures: Sequence[EnrollmentImage], known: set[str]
) -> tuple[list[_Encoded], list[Rejection]]:
    """Encode the images one after the other: decoding each may take hundreds of megabytes."""
    encoded: list[_Encoded] = []
    rejected: list[Rejection] = []
    seen = set(known)
    for picture in pictures:
        digest = hashlib.sha256(picture.data).hexdigest()
        if digest in seen:
            rejected.append(_duplicate(picture))
            continue
        face = await _encode(reading, picture)
        if isinstance(face, Rejection):
            rejected.append(face)
            continue
        seen.add(digest)
        encoded.append(_Encoded(picture, digest, face))
    return encoded, rejected


async def _encode(reading: _Reading, picture: EnrollmentImage) -> EncodedFace | Rejection:
    try:
        faces = await reading.encoders.encode(reading.space, picture.data, maximum_faces=2, bulk=reading.bulk)
        if not faces:
            raise NoFaceFound("no face was found in the image")
    except (NoFaceFound, UnreadableImage, UnsupportedImageFormat, ImageTooLarge) as error:
        return Rejection(picture.name, type(error), error.detail or error.title)
    if reading.several == "reject" and not largest_is_meant([face.face for face in faces]):
        return Rejection(picture.name, SeveralFaces, "the image shows several faces of similar size")
    if objection := reading.review.of_reference(faces[0].face, reading.space.name):
        return Rejection(picture.name, objection.kind, objection.detail)
    return faces[0]


def largest_is_meant(faces: Sequence[DetectedFace]) -> bool:
    """Whether the first of the faces (largest first) is alone or dominates."""
    return len(faces) == 1 or faces[0].box.area >= DOMINANCE * faces[1].box.area


async def _store(
    session: AsyncSession,
    gallery: Gallery,
    owner: str | NamedPerson,
    encoded: list[_Encoded],
    rejected: list[Rejection],
    *,
    is_strict: bool,
) -> Enrollment:
    gallery = await find_same_gallery(session, gallery)
    person, is_new = await _find_or_create(session, gallery, owner)
    await lock_people(session, gallery, [person.number])  # an equal request at the same time waits here
    known = await _enrolled_pictures(session, gallery, person)
    fresh = [item for item in encoded if item.digest not in known]
    rejected += [_duplicate(item.picture) for item in encoded if item.digest in known]
    if is_strict and not gallery.verification_only:
        stored = await _store_distinct(session, gallery, person, fresh, rejected)
        return replace(stored, person=person, created_person=is_new)
    added = await add_faces(session, gallery, person, [_new_face(item) for item in fresh]) if fresh else []
    warnings = await _warnings(session, gallery, person, added, [item.picture.name for item in fresh])
    return Enrollment(added, rejected, warnings, person, is_new)


async def _warnings(
    session: AsyncSession, gallery: Gallery, person: Person, added: Sequence[Face], names: Sequence[str]
) -> list[EnrollmentWarning]:
    """A warning for each new reference that is outside the largest group of the person's references."""
    unlike = {each.face_id: each for each in await unlike_references(session, gallery, person)} if added else {}
    return [
        EnrollmentWarning(name, UnlikeOtherReferences, _unlike_detail(gallery))
        for face, name in zip(added, names, strict=True)
        if face.id in unlike
    ]


def _unlike_detail(gallery: Gallery) -> str:
    """The detail has no similarity: an enrolled embedding must not serve as a probe."""
    return f"the face is unlike the person's other references; the threshold is {gallery.threshold:.2f}"


async def _store_distinct(
    session: AsyncSession, gallery: Gallery, person: Person, fresh: list[_Encoded], rejected: list[Rejection]
) -> Enrollment:
    """Store the images one after the other, so that each is compared with those before it."""
    added: list[Face] = []
    names: list[str] = []
    for item in fresh:
        if await _is_nearer_to_another(session, gallery, person, item.face.embedding):
            rejected.append(_nearer_to_another(item.picture))
        else:
            added += await add_faces(session, gallery, person, [_new_face(item)])
            names.append(item.picture.name)
    return Enrollment(added, rejected, await _warnings(session, gallery, person, added, names))


async def _is_nearer_to_another(session: AsyncSession, gallery: Gallery, person: Person, embedding: Embedding) -> bool:
    """Whether another person is more similar. For a person without references, no other person may match."""
    (nearest,) = await search(session, gallery, [embedding], limit=2)
    other = next((candidate for candidate in nearest if candidate.person_id != person.id), None)
    own = await best_reference(session, gallery, person, embedding)
    if other is None:
        return False
    return other.similarity >= (gallery.threshold if own is None else own.similarity)


def _nearer_to_another(picture: EnrollmentImage) -> Rejection:
    """The rejection names nobody: the caller may not be allowed to know of other people."""
    return Rejection(picture.name, NearerToAnotherPerson, "the face is more similar to another person of the gallery")


async def _enrolled_pictures(session: AsyncSession, gallery: Gallery, person: Person) -> set[str]:
    """Digests of the images of the person's references."""
    digests: set[str] = set()
    cursor: str | None = None
    while True:
        page = await list_faces(session, gallery, person, _PAGE, cursor)
        digests |= {face.detection["picture"] for face in page.items if face.detection and "picture" in face.detection}
        cursor = page.next_cursor
        if cursor is None:
            return digests


def _duplicate(picture: EnrollmentImage) -> Rejection:
    return Rejection(picture.name, DuplicatePicture, "the same image is already a reference of this person")


def _new_face(item: _Encoded) -> NewFace:
    return NewFace(item.face.embedding, _source(item.picture.name), _detection(item))


def _source(name: str) -> str | None:
    """The name of the image, in a form that can be stored."""
    return "".join(character for character in name if character.isprintable())[:MAXIMUM_SOURCE_LENGTH] or None


def _detection(item: _Encoded) -> dict[str, Any]:
    found, box = item.face.face, item.face.face.box
    sides = {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom}
    return {
        "box": {side: round(float(place), 2) for side, place in sides.items()},
        "detection_score": round(float(found.detection_score), 4),
        "quality": round(float(found.quality), 4),
        "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in found.landmarks],
        "picture": item.digest,
    }
