"""Rules of enrollment, recognition and verification that a caller can see, each in one test."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any, cast

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.operator import operator_transaction
from service.access.quotas import Quotas
from service.access.tenants import create_tenant
from service.database.connection import Database
from service.database.session import tenant_session
from service.encoder.contract import Box, DetectedFace, EncodedFace, Liveness, QualityParts
from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_people
from service.errors import InvalidRequest, NotFound, QuotaExceeded
from service.gallery.galleries import Gallery, create_gallery, delete_gallery, update_gallery
from service.gallery.people import Person, create_person
from service.gallery.votes import Votes
from service.identity import enroll
from service.identity.enroll import Enrollment, EnrollmentImage, enroll_embedding, enroll_pictures
from service.identity.legacy_vote import decide_by_votes
from service.identity.recognize import recognize_embeddings, recognize_picture
from service.identity.review import Review, shortcomings
from service.identity.verify import compare_pictures, verify_picture
from service.settings import Settings
from tests.identity.conftest import OpenSession

STRICT = Review(enrollment="strict")
ADA = EnrollmentImage("ada.jpg", draw_people(["Ada"]))


class WatchedEncoders:
    """The fake encoder. It records the options of each call, and does something else before it works."""

    def __init__(self, encoders: Encoders, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        self._encoders = encoders
        self._meanwhile = meanwhile
        self.calls: list[dict[str, Any]] = []

    async def encode(self, *values: Any, **named: Any) -> list[EncodedFace]:
        self.calls.append(named)
        if self._meanwhile is not None:
            await self._meanwhile()
        return await self._encoders.encode(*values, **named)


@pytest.fixture
async def twin(session: AsyncSession, gallery: Gallery) -> Person:
    """Another person without a face, enrolled later, committed."""
    made = await create_person(session, gallery, "Twin")
    await session.commit()
    return made


def reasons(enrollment: Enrollment) -> list[tuple[str, str]]:
    return [(rejection.image, rejection.reason) for rejection in enrollment.rejected]


async def embedding_of(encoders: Encoders, data: bytes) -> np.ndarray:
    return (await encoders.encode(encoders.default, data))[0].embedding


def at_cosine(embedding: np.ndarray, cosine: float) -> np.ndarray:
    """A vector of this cosine to the embedding."""
    wide = embedding.astype(np.float64) / np.linalg.norm(embedding)
    other = np.random.default_rng(1).standard_normal(len(wide))
    other -= other @ wide * wide
    return np.asarray(cosine * wide + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other))


@pytest.mark.parametrize("operation", ["enroll", "recognize", "verify"])
async def test_the_session_holds_no_connection_while_the_model_works(
    session: AsyncSession, encoders: Encoders, ada: Person, operation: str
) -> None:
    held: list[bool] = []

    async def look() -> None:
        held.append(session.in_transaction())

    watched = cast(Encoders, WatchedEncoders(encoders, look))
    await session.scalar(text("SELECT 1"))
    if operation == "enroll":
        await enroll_pictures(session, watched, "staff", ada.id, [ADA])
    elif operation == "recognize":
        await recognize_picture(session, watched, "staff", ADA.data)
    else:
        await verify_picture(session, watched, "staff", ada.id, ADA.data)
    assert held == [False]


async def test_a_strict_review_accepts_an_image_that_is_nearest_to_its_own_person(
    session: AsyncSession, encoders: Encoders, ada: Person, twin: Person
) -> None:
    """The other person is above the threshold too, but less similar."""
    embedding = await embedding_of(encoders, ADA.data)
    await enroll_embedding(session, "staff", ada.id, at_cosine(embedding, 0.95))
    await enroll_embedding(session, "staff", twin.id, at_cosine(embedding, 0.8))
    await session.commit()
    enrollment = await enroll_pictures(session, encoders, "staff", ada.id, [ADA], review=STRICT)
    assert (len(enrollment.faces), enrollment.rejected) == (1, [])


async def test_a_strict_review_rejects_an_image_that_is_equally_similar_to_another_person(
    session: AsyncSession, encoders: Encoders, ada: Person, twin: Person
) -> None:
    """The own person is the first candidate, because it was enrolled first."""
    embedding = await embedding_of(encoders, ADA.data)
    for person in (ada, twin):
        await enroll_embedding(session, "staff", person.id, embedding)
    await session.commit()
    enrollment = await enroll_pictures(session, encoders, "staff", ada.id, [ADA], review=STRICT)
    assert (enrollment.faces, reasons(enrollment)) == ([], [("ada.jpg", "nearer-to-another-person")])


async def test_only_a_strict_review_compares_an_image_with_other_people(
    session: AsyncSession, encoders: Encoders, ada: Person, twin: Person
) -> None:
    await enroll_pictures(session, encoders, "staff", ada.id, [ADA])
    await session.commit()
    standard = Review(enrollment="standard")
    enrollment = await enroll_pictures(session, encoders, "staff", twin.id, [ADA], review=standard)
    assert (len(enrollment.faces), enrollment.rejected) == (1, [])


async def test_a_strict_review_searches_nobody_in_a_gallery_for_verification_only(
    session: AsyncSession, encoders: Encoders, gallery: Gallery, ada: Person, twin: Person
) -> None:
    await enroll_embedding(session, "staff", twin.id, await embedding_of(encoders, ADA.data))
    await update_gallery(session, gallery, verification_only=True)
    await session.commit()
    enrollment = await enroll_pictures(session, encoders, "staff", ada.id, [ADA], review=STRICT)
    assert (len(enrollment.faces), enrollment.rejected) == (1, [])


async def test_duplicates_are_found_among_all_references(
    session: AsyncSession, encoders: Encoders, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The references are read in pages."""
    monkeypatch.setattr(enroll, "_PAGE", 1)
    images = [EnrollmentImage(f"{number}.jpg", draw_people(["Ada"], variation=number)) for number in range(3)]
    await enroll_pictures(session, encoders, "staff", ada.id, images)
    await session.commit()
    again = await enroll_pictures(session, encoders, "staff", ada.id, images)
    assert (again.faces, reasons(again)) == ([], [(image.name, "duplicate-picture") for image in images])


async def test_an_image_that_another_request_enrolled_meanwhile_is_reported_as_a_duplicate(
    session: AsyncSession, open_session: OpenSession, encoders: Encoders, ada: Person
) -> None:
    async def enroll_it() -> None:
        async with open_session() as other:
            await enroll_pictures(other, encoders, "staff", ada.id, [ADA])
            await other.commit()

    watched = cast(Encoders, WatchedEncoders(encoders, enroll_it))
    enrollment = await enroll_pictures(session, watched, "staff", ada.id, [ADA])
    assert (enrollment.faces, reasons(enrollment)) == ([], [("ada.jpg", "duplicate-picture")])


async def test_the_source_is_the_printable_part_of_the_name_cut_at_500_characters(
    session: AsyncSession, encoders: Encoders, ada: Person
) -> None:
    image = EnrollmentImage("a\n\0\x1b" + "b" * 600, ADA.data)
    (face,) = (await enroll_pictures(session, encoders, "staff", ada.id, [image])).faces
    assert face.source == "a" + "b" * 499


@pytest.mark.parametrize("bulk", [True, False])
async def test_images_of_bulk_work_wait_behind_others(
    session: AsyncSession, encoders: Encoders, ada: Person, bulk: bool
) -> None:
    watched = WatchedEncoders(encoders)
    await enroll_pictures(session, cast(Encoders, watched), "staff", ada.id, [ADA], bulk=bulk)
    assert [call["bulk"] for call in watched.calls] == [bulk]


async def test_a_full_gallery_refuses_an_image_before_the_model_works(database: Database, encoders: Encoders) -> None:
    watched = WatchedEncoders(encoders)
    async with operator_transaction(database.engine) as connection:
        tenant_id = await create_tenant(
            connection, f"full-{uuid.uuid4().hex[:12]}", Quotas(maximum_faces_per_gallery=1)
        )
    async with tenant_session(database.engine, tenant_id) as session:
        gallery = await create_gallery(session, "staff", encoders.default)
        person = await create_person(session, gallery, "Ada")
        await enroll_embedding(session, "staff", person.id, np.ones(512))
        await session.commit()
        with pytest.raises(QuotaExceeded):
            await enroll_pictures(session, cast(Encoders, watched), "staff", person.id, [ADA])
    assert watched.calls == []


@pytest.fixture
def replacing(open_session: OpenSession, encoders: Encoders, gallery: Gallery) -> Encoders:
    """Encoders during whose work the gallery is deleted and another one of its name is made."""

    async def replace_gallery() -> None:
        async with open_session() as other:
            await delete_gallery(other, gallery)
            await create_gallery(other, gallery.name, gallery.space)
            await other.commit()

    return cast(Encoders, WatchedEncoders(encoders, replace_gallery))


async def test_an_enrollment_says_that_the_gallery_was_deleted_while_the_model_worked(
    session: AsyncSession, replacing: Encoders, ada: Person
) -> None:
    with pytest.raises(NotFound, match="gallery 'staff' was deleted"):
        await enroll_pictures(session, replacing, "staff", ada.id, [ADA])


async def test_a_verification_says_that_the_gallery_was_deleted_while_the_model_worked(
    session: AsyncSession, replacing: Encoders, ada: Person
) -> None:
    with pytest.raises(NotFound, match="gallery 'staff' was deleted"):
        await verify_picture(session, replacing, "staff", ada.id, ADA.data)


@pytest.mark.parametrize("limit", [0, 101])
async def test_embeddings_have_the_limit_of_candidates_that_images_have(
    session: AsyncSession, gallery: Gallery, limit: int
) -> None:
    with pytest.raises(InvalidRequest, match="limit: must be from 1 to 100"):
        await recognize_embeddings(session, "staff", [np.ones(512)], limit=limit)


async def test_a_comparison_exactly_at_the_threshold_is_verified(encoders: Encoders) -> None:
    other = draw_people(["Ada"], variation=1)
    similarity = (await compare_pictures(encoders, ADA.data, other)).similarity
    assert (await compare_pictures(encoders, ADA.data, other, threshold=similarity)).verified


def test_a_person_without_votes_is_not_elected() -> None:
    assert decide_by_votes([Votes("Ada", 0, 0)]) is None


def face_of(liveness: Liveness | None = None, parts: QualityParts | None = None) -> DetectedFace:
    return DetectedFace(Box(0, 0, 50, 50), 0.9, (), 0.9, parts, liveness=liveness)


@pytest.mark.parametrize("liveness", [None, Liveness(None, None, "the face is too small"), Liveness(False, 0.1)])
def test_a_face_that_is_not_certainly_living_is_refused_if_liveness_is_enforced(liveness: Liveness | None) -> None:
    objection = Review(enforces_liveness=True).of_probe(face_of(liveness))
    assert objection is not None
    assert objection.reason == "not-live"
    assert Review().of_probe(face_of(liveness)) is None


def test_a_living_face_passes_if_liveness_is_enforced() -> None:
    assert Review(enforces_liveness=True).of_reference(face_of(Liveness(True, 0.9))) is None


@pytest.mark.parametrize(("liveness", "enforces"), [("off", False), ("report", False), ("enforce", True)])
def test_a_review_takes_each_requirement_from_its_own_setting(
    settings: Settings, liveness: str, enforces: bool
) -> None:
    named = {"enrollment_review": "strict", "recognition_review": "standard", "liveness": liveness}
    assert Review.of(settings.model_copy(update=named)) == Review("strict", "standard", enforces)


def test_a_face_exactly_at_the_minimum_of_a_gate_passes() -> None:
    parts = QualityParts(size=0.2, sharpness=0.2, brightness=0.3, pose=0.3, detection=0.5)
    assert shortcomings(face_of(parts=parts), "standard") == ()
