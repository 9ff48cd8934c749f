"""Enrollment from images and from embeddings."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from sqlalchemy.ext.asyncio import AsyncSession

from service.embedding import external_space
from service.encoder.contract import Box, DetectedFace, EncodedFace
from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_nobody, draw_people
from service.errors import EmbeddingSpaceMismatch, InvalidEmbedding, InvalidRequest, NotFound
from service.gallery.faces import list_faces
from service.gallery.galleries import Gallery, create_gallery, delete_gallery, find_gallery
from service.gallery.people import Person, create_person, delete_person, find_person
from service.identity.enroll import Enrollment, EnrollmentImage, enroll_embedding, enroll_pictures, largest_is_meant
from service.identity.recognize import recognize_picture
from tests.identity.conftest import OpenSession


def image_of(name: str, *people: str, variation: int = 0) -> EnrollmentImage:
    data = draw_people(people, variation=variation) if people else draw_nobody()
    return EnrollmentImage(name, data)


def huge_png() -> bytes:
    """A small file with more pixels than the limit."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


def reasons(enrollment: Enrollment) -> list[tuple[str, str]]:
    return [(rejection.image, rejection.reason) for rejection in enrollment.rejected]


async def test_a_person_enrolled_a_moment_ago_is_recognized(
    session: AsyncSession, encoders: Encoders, ada: Person
) -> None:
    enrollment = await enroll_pictures(session, encoders, "staff", ada.id, [image_of("a.jpg", "Ada")])
    await session.commit()
    (face,) = enrollment.faces
    assert (face.person_id, face.source, enrollment.rejected) == (ada.id, "a.jpg", [])
    assert face.detection is not None
    assert set(face.detection) == {"box", "detection_score", "quality", "landmarks", "picture"}
    recognition = await recognize_picture(session, encoders, "staff", draw_people(["Ada"], variation=1))
    match = recognition.faces[0].decision.match
    assert match is not None
    assert (match.name, match.face_id) == ("Ada", face.id)


async def test_unusable_images_are_rejected_with_a_reason_and_the_others_are_enrolled(
    session: AsyncSession, encoders: Encoders, ada: Person
) -> None:
    images = [
        image_of("good.jpg", "Ada"),
        image_of("nobody.jpg"),
        image_of("two.jpg", "Ada", "Bob"),
        EnrollmentImage("text.jpg", b"this is a text"),
        EnrollmentImage("cut.jpg", draw_people(["Ada"])[:400]),
        EnrollmentImage("huge.png", huge_png()),
        image_of("also good.jpg", "Ada", variation=1),
    ]
    enrollment = await enroll_pictures(session, encoders, "staff", ada.id, images)
    assert [face.source for face in enrollment.faces] == ["good.jpg", "also good.jpg"]
    assert reasons(enrollment) == [
        ("nobody.jpg", "no-face-found"),
        ("two.jpg", "several-faces"),
        ("text.jpg", "unsupported-image-format"),
        ("cut.jpg", "unreadable-image"),
        ("huge.png", "image-too-large"),
    ]
    assert all(rejection.detail for rejection in enrollment.rejected)


async def test_the_largest_face_is_enrolled_if_it_is_requested_or_dominates(
    session: AsyncSession, encoders: Encoders, ada: Person
) -> None:
    small = Image.open(io.BytesIO(draw_people(["Bob"], (256, 256)))).resize((120, 120))
    scene = Image.open(io.BytesIO(draw_people(["Ada"], (400, 256))))
    scene.paste(small, (0, 0))
    file = io.BytesIO()
    scene.save(file, "PNG")
    images = [EnrollmentImage("dominates.png", file.getvalue()), image_of("equal.jpg", "Ada", "Bob")]
    enrollment = await enroll_pictures(session, encoders, "staff", ada.id, images, several="largest")
    assert [face.source for face in enrollment.faces] == ["dominates.png", "equal.jpg"]
    await session.rollback()
    enrollment = await enroll_pictures(session, encoders, "staff", ada.id, images)
    assert [face.source for face in enrollment.faces] == ["dominates.png"]


def test_a_face_dominates_if_it_has_twice_the_area() -> None:
    def face(width: float) -> DetectedFace:
        return DetectedFace(Box(0, 0, width, 10), 1.0, (), 1.0)

    assert largest_is_meant([face(10)])
    assert largest_is_meant([face(20), face(10)])
    assert not largest_is_meant([face(19.9), face(10)])


async def test_the_same_image_is_enrolled_once_for_a_person(
    session: AsyncSession, encoders: Encoders, gallery: Gallery, ada: Person
) -> None:
    first, second = image_of("a.jpg", "Ada"), image_of("b.jpg", "Ada", variation=1)
    await enroll_pictures(session, encoders, "staff", ada.id, [first])
    await session.commit()
    again = await enroll_pictures(
        session,
        encoders,
        "staff",
        ada.id,
        [EnrollmentImage("copy.jpg", first.data), second, EnrollmentImage("c.jpg", second.data)],
    )
    await session.commit()
    assert [face.source for face in again.faces] == ["b.jpg"]
    assert reasons(again) == [("copy.jpg", "duplicate-picture"), ("c.jpg", "duplicate-picture")]
    twin = await create_person(session, gallery, "Twin")
    await session.commit()
    assert len((await enroll_pictures(session, encoders, "staff", twin.id, [first])).faces) == 1


async def test_the_same_request_many_times_at_once_adds_one_reference(
    open_session: OpenSession, encoders: Encoders, gallery: Gallery, ada: Person
) -> None:
    data = draw_people(["Ada"])

    async def enroll() -> int:
        async with open_session() as own:
            enrollment = await enroll_pictures(own, encoders, "staff", ada.id, [EnrollmentImage("a.jpg", data)])
            await own.commit()
            return len(enrollment.faces)

    assert sum(await asyncio.gather(*(enroll() for _ in range(12)))) == 1
    async with open_session() as session:
        assert (await find_person(session, gallery, ada.id)).faces == 1


class MeanwhileEncoders:
    """Encoders that run a given action while the model works."""

    def __init__(self, encoders: Encoders, happening: Callable[[], Awaitable[None]]) -> None:
        self._encoders = encoders
        self._happening = happening

    async def encode(self, *values: Any, **named: Any) -> list[EncodedFace]:
        await self._happening()
        return await self._encoders.encode(*values, **named)


@pytest.mark.parametrize("deleted", ["person", "gallery", "gallery made anew"])
async def test_a_person_or_gallery_deleted_while_the_model_works_is_not_found(
    open_session: OpenSession, encoders: Encoders, gallery: Gallery, ada: Person, deleted: str
) -> None:
    async def delete() -> None:
        async with open_session() as other:
            if deleted == "person":
                await delete_person(other, gallery, ada.id)
            else:
                await delete_gallery(other, gallery)
            if deleted == "gallery made anew":
                await create_gallery(other, gallery.name, gallery.space)
            await other.commit()

    meanwhile = cast(Encoders, MeanwhileEncoders(encoders, delete))
    async with open_session() as session:
        with pytest.raises(NotFound):
            await enroll_pictures(session, meanwhile, "staff", ada.id, [image_of("a.jpg", "Ada")])


async def test_a_wrong_request_says_what_is_wrong(session: AsyncSession, encoders: Encoders, ada: Person) -> None:
    with pytest.raises(InvalidRequest):
        await enroll_pictures(session, encoders, "staff", ada.id, [])
    with pytest.raises(NotFound):
        await enroll_pictures(session, encoders, "nobody", ada.id, [image_of("a.jpg", "Ada")])
    with pytest.raises(NotFound):
        await enroll_pictures(session, encoders, "staff", "0" * 13, [image_of("a.jpg", "Ada")])


@pytest.mark.parametrize(
    "values", [[0.0] * 512, [1.0] * 511, [float("nan")] + [1.0] * 511, [float("inf")] + [1.0] * 511, []]
)
async def test_an_embedding_that_cannot_be_compared_is_refused(
    session: AsyncSession, ada: Person, values: list[float]
) -> None:
    with pytest.raises(InvalidEmbedding):
        await enroll_embedding(session, "staff", ada.id, values)


async def test_a_gallery_of_an_external_space_accepts_embeddings_and_refuses_images(
    session: AsyncSession, encoders: Encoders
) -> None:
    space = external_space("external:legacy:4")
    assert space is not None
    gallery = await create_gallery(session, "elsewhere", space)
    ada = await create_person(session, gallery, "Ada")
    await session.commit()
    with pytest.raises(EmbeddingSpaceMismatch, match="made elsewhere"):
        await enroll_pictures(session, encoders, "elsewhere", ada.id, [image_of("a.jpg", "Ada")])
    enrollment = await enroll_embedding(session, "elsewhere", ada.id, np.ones(4), source=3)
    assert [face.source for face in enrollment.faces] == [3]
    assert len((await list_faces(session, await find_gallery(session, "elsewhere"), ada)).items) == 1
