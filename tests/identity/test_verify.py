"""Verification and comparison."""

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.embedding import EmbeddingSpace, external_space
from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_nobody, draw_people
from service.errors import EmbeddingSpaceMismatch, EncoderUnavailable, InvalidEmbedding, NoFaceFound, NotFound
from service.gallery.galleries import Gallery
from service.gallery.people import Person, create_person
from service.identity.enroll import EnrollmentImage, enroll_pictures
from service.identity.spaces import resolve_space
from service.identity.verify import compare_pictures, similarity_of, verify_embedding, verify_picture


@pytest.fixture
async def ada(session: AsyncSession, encoders: Encoders, gallery: Gallery) -> Person:
    """Ada, with one reference."""
    person = await create_person(session, gallery, "Ada")
    await session.commit()
    await enroll_pictures(session, encoders, "staff", person.id, [EnrollmentImage("a", draw_people(["Ada"]))])
    await session.commit()
    return person


async def test_only_the_right_person_is_verified(session: AsyncSession, encoders: Encoders, ada: Person) -> None:
    same = await verify_picture(session, encoders, "staff", ada.id, draw_people(["Ada"], variation=1))
    other = await verify_picture(session, encoders, "staff", ada.id, draw_people(["Bob"]))
    assert (same.verified, other.verified) == (True, False)
    assert (same.similarity or 0.0) > 0.9
    assert (other.similarity or 0.0) < 0.5
    assert same.threshold == encoders.default.threshold
    assert same.face is not None
    assert same.reference is not None


async def test_the_threshold_of_the_request_decides(session: AsyncSession, encoders: Encoders, ada: Person) -> None:
    probe = draw_people(["Ada"], variation=1)
    strict = await verify_picture(session, encoders, "staff", ada.id, probe, threshold=1.0)
    lenient = await verify_picture(session, encoders, "staff", ada.id, draw_people(["Bob"]), threshold=0.0)
    assert (strict.verified, lenient.verified) == (False, True)


async def test_a_person_without_a_reference_is_never_verified(
    session: AsyncSession, encoders: Encoders, gallery: Gallery
) -> None:
    person = await create_person(session, gallery, "Empty")
    await session.commit()
    verification = await verify_picture(session, encoders, "staff", person.id, draw_people(["Empty"]), threshold=0.0)
    assert (verification.verified, verification.similarity, verification.reference) == (False, 0.0, None)


async def test_an_embedding_can_be_verified(
    session: AsyncSession, encoders: Encoders, gallery: Gallery, ada: Person
) -> None:
    (probe,) = await encoders.encode(gallery.space, draw_people(["Ada"], variation=1))
    verification = await verify_embedding(session, "staff", ada.id, probe.embedding)
    assert (verification.verified, verification.face) == (True, None)
    with pytest.raises(InvalidEmbedding):
        await verify_embedding(session, "staff", ada.id, [1.0])


async def test_a_wrong_request_says_what_is_wrong(session: AsyncSession, encoders: Encoders, ada: Person) -> None:
    with pytest.raises(NoFaceFound):
        await verify_picture(session, encoders, "staff", ada.id, draw_nobody())
    with pytest.raises(NotFound):
        await verify_picture(session, encoders, "staff", "0" * 13, draw_people(["Ada"]))
    with pytest.raises(NotFound):
        await verify_picture(session, encoders, "nobody", ada.id, draw_people(["Ada"]))


async def test_two_images_are_compared_by_their_largest_faces(encoders: Encoders) -> None:
    same = await compare_pictures(encoders, draw_people(["Ada"]), draw_people(["Ada"], variation=1))
    other = await compare_pictures(encoders, draw_people(["Ada"]), draw_people(["Bob"]), encoder="fake")
    assert (same.verified, other.verified) == (True, False)
    assert (other.similarity or 0.0) < (same.similarity or 0.0) <= 1.0


async def test_a_comparison_names_the_image_without_a_face(encoders: Encoders) -> None:
    with pytest.raises(NoFaceFound, match="second"):
        await compare_pictures(encoders, draw_people(["Ada"]), draw_nobody())
    with pytest.raises(NoFaceFound, match="first"):
        await compare_pictures(encoders, draw_nobody(), draw_people(["Ada"]))


async def test_images_are_compared_only_by_a_loaded_encoder(encoders: Encoders) -> None:
    with pytest.raises(EncoderUnavailable):
        await compare_pictures(encoders, b"", b"", encoder="dlib")
    with pytest.raises(EmbeddingSpaceMismatch):
        await compare_pictures(encoders, b"", b"", encoder="external:x:4")


def test_a_space_is_found_by_name(encoders: Encoders) -> None:
    assert resolve_space(encoders, None) == resolve_space(encoders, "fake") == encoders.default
    assert resolve_space(encoders, "external:x:4").dimension == 4


def test_similarity_follows_the_metric_of_the_space() -> None:
    cosine = external_space("external:x:2")
    assert cosine is not None
    euclidean = EmbeddingSpace("e", "e", 2, "euclidean", 0.5)
    first, second = np.array([3, 4], np.float32), np.array([3, 3.5], np.float32)
    assert similarity_of(cosine, first, 10 * first) == pytest.approx(1.0)
    assert similarity_of(cosine, first, -first) == 0.0
    assert similarity_of(cosine, first, second) == pytest.approx(23 / (5 * np.hypot(3, 3.5)))
    assert similarity_of(euclidean, first, second) == pytest.approx(0.5)
    assert similarity_of(euclidean, first, 10 * first) == 0.0
