"""The operator's requirements for faces: quality, liveness, and references that are nearest to their own person."""

from collections.abc import Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.encoder.contract import Box, DetectedFace, QualityParts
from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_people
from service.encoder.opening import open_encoders
from service.errors import InvalidRequest, NotLive
from service.gallery.galleries import Gallery
from service.gallery.people import Person, create_person
from service.identity.enroll import EnrollmentImage, enroll_pictures
from service.identity.recognize import recognize_picture
from service.identity.review import Review
from service.identity.verify import compare_pictures, verify_picture
from service.settings import Settings

STRICT = Review(enrollment="strict")
LIVING = Review(enforces_liveness=True)


@pytest.fixture
async def grace(session: AsyncSession, gallery: Gallery) -> Person:
    made = await create_person(session, gallery, "Grace")
    await session.commit()
    return made


@pytest.fixture
def watchful(settings: Settings) -> Iterator[Encoders]:
    """The fake encoder with a liveness check."""
    opened = open_encoders(settings.model_copy(update={"liveness": "enforce"}))
    yield opened
    opened.close()


def face_of(**parts: float) -> DetectedFace:
    measured = {"size": 0.9, "sharpness": 0.9, "brightness": 0.9, "pose": 0.9, "detection": 0.9} | parts
    return DetectedFace(Box(0, 0, 50, 50), 0.9, ((0.0, 0.0),) * 5, 0.9, QualityParts(**measured))


def test_a_face_that_is_not_good_enough_is_refused_by_its_worst_fault() -> None:
    blurred = face_of(sharpness=0.1, pose=0.29)
    objection = Review(enrollment="standard").of_reference(blurred)
    assert objection is not None
    assert objection.reason == "face-blurred"
    assert "face-turned-away" in objection.detail
    assert Review(enrollment="standard").of_probe(blurred) is None
    assert Review(recognition="standard").of_probe(blurred) is not None
    assert Review().of_reference(blurred) is None


def test_a_good_face_passes_every_review() -> None:
    assert Review(enrollment="strict", recognition="strict").of_reference(face_of()) is None


async def test_a_strict_review_rejects_an_image_of_another_person(
    session: AsyncSession, encoders: Encoders, ada: Person, grace: Person
) -> None:
    await enroll_pictures(
        session, encoders, "staff", ada.id, [EnrollmentImage("a.jpg", draw_people(["Ada"]))], review=STRICT
    )
    await session.commit()
    again = EnrollmentImage("b.jpg", draw_people(["Ada"], variation=1))
    refused = await enroll_pictures(session, encoders, "staff", grace.id, [again], review=STRICT)
    assert ([rejection.reason for rejection in refused.rejected], refused.faces) == (["nearer-to-another-person"], [])
    assert "Ada" not in refused.rejected[0].detail
    await session.commit()  # the rejected enrollment locked its person
    taken = await enroll_pictures(session, encoders, "staff", ada.id, [again], review=STRICT)
    assert (len(taken.faces), taken.rejected) == (1, [])


async def test_a_strict_review_rejects_only_the_wrong_image_of_several(
    session: AsyncSession, encoders: Encoders, ada: Person, grace: Person
) -> None:
    await enroll_pictures(
        session, encoders, "staff", ada.id, [EnrollmentImage("a.jpg", draw_people(["Ada"]))], review=STRICT
    )
    await session.commit()
    images = [
        EnrollmentImage("1.jpg", draw_people(["Grace"])),
        EnrollmentImage("2.jpg", draw_people(["Ada"], variation=2)),
        EnrollmentImage("3.jpg", draw_people(["Grace"], variation=3)),
    ]
    enrollment = await enroll_pictures(session, encoders, "staff", grace.id, images, review=STRICT)
    assert len(enrollment.faces) == 2
    assert [(rejection.image, rejection.reason) for rejection in enrollment.rejected] == [
        ("2.jpg", "nearer-to-another-person")
    ]


async def test_a_photograph_of_a_photograph_is_not_enrolled_recognized_or_verified(
    session: AsyncSession, watchful: Encoders, ada: Person
) -> None:
    alive, printed = draw_people(["Ada"]), draw_people(["Ada"], printed=True)
    refused = await enroll_pictures(
        session,
        watchful,
        "staff",
        ada.id,
        [EnrollmentImage("p.jpg", printed), EnrollmentImage("a.jpg", alive)],
        review=LIVING,
    )
    await session.commit()
    assert [(rejection.image, rejection.reason) for rejection in refused.rejected] == [("p.jpg", "not-live")]
    (face,) = (await recognize_picture(session, watchful, "staff", printed, review=LIVING)).faces
    assert (face.decision.outcome, face.decision.candidates) == ("no_match", ())
    assert face.objection is not None
    assert face.objection.reason == "not-live"
    with pytest.raises(NotLive):
        await verify_picture(session, watchful, "staff", ada.id, printed, review=LIVING)
    (living,) = (await recognize_picture(session, watchful, "staff", alive, review=LIVING)).faces
    assert living.decision.outcome == "match"


async def test_a_comparison_requires_good_faces_and_a_living_second_one(watchful: Encoders) -> None:
    alive, printed = draw_people(["Ada"]), draw_people(["Ada"], printed=True)
    assert (await compare_pictures(watchful, printed, alive, review=LIVING)).verified  # the photograph of a document
    with pytest.raises(NotLive):
        await compare_pictures(watchful, alive, printed, review=LIVING)
    small = draw_people(["Ada"], size=(66, 66))
    gate = Review(recognition="strict")
    await compare_pictures(watchful, alive, alive, review=gate)
    with pytest.raises(InvalidRequest, match="face-too-small"):
        await compare_pictures(watchful, small, alive, review=gate)
    with pytest.raises(InvalidRequest, match="face-too-small"):
        await compare_pictures(watchful, alive, small, review=gate)


def test_a_useless_face_is_neither_enrolled_nor_recognized_by_default() -> None:
    review = Review.of(Settings.model_construct())
    assert (review.enrollment, review.recognition) == ("basic", "basic")
    for parts, reason in (
        ({"size": 0.02}, "face-too-small"),
        ({"contrast": 0.2}, "face-badly-lit"),
        ({"detail": 0.5}, "face-blurred"),
    ):
        for objection in (review.of_reference(face_of(**parts)), review.of_probe(face_of(**parts))):
            assert objection is not None
            assert objection.reason == reason
    poor = face_of(size=0.05, sharpness=0.0, brightness=0.0, pose=0.0, detection=0.0)
    assert review.of_reference(poor) is None
    assert review.of_probe(poor) is None


def test_the_bounds_of_the_basic_review_depend_on_the_encoder() -> None:
    dark = face_of(contrast=0.15)
    assert Review("basic").of_reference(dark, "dlib") is None
    assert Review("basic").of_reference(dark, "insightface:buffalo_l") is not None


def test_a_fault_that_two_measures_show_is_named_once() -> None:
    objection = Review("standard").of_reference(face_of(brightness=0.1, contrast=0.1))
    assert objection is not None
    assert objection.detail.count("face-badly-lit") == 1
