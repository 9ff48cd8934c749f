"""Identification, from images and from embeddings."""

import asyncio

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import Database
from service.database.session import tenant_session
from service.embedding import external_space
from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_nobody, draw_people
from service.errors import (
    EmbeddingSpaceMismatch,
    EncoderUnavailable,
    Forbidden,
    InvalidEmbedding,
    InvalidRequest,
    NotFound,
    UnsupportedImageFormat,
)
from service.gallery.galleries import Gallery, create_gallery, delete_gallery, update_gallery
from service.gallery.people import create_person
from service.identity.enroll import EnrollmentImage, enroll_pictures
from service.identity.recognize import Identification, recognize_embeddings, recognize_picture
from service.identity.verify import verify_picture
from tests.conftest import MakePool
from tests.support.galleries import space_of
from tests.support.waiting import GUARD_SECONDS


@pytest.fixture
async def people(session: AsyncSession, encoders: Encoders, gallery: Gallery) -> dict[str, str]:
    """Ada and Bob, enrolled and committed; ids by name."""
    made: dict[str, str] = {}
    for name in ("Ada", "Bob"):
        person = await create_person(session, gallery, name)
        await session.commit()
        await enroll_pictures(session, encoders, "staff", person.id, [EnrollmentImage(name, draw_people([name]))])
        await session.commit()
        made[name] = person.id
    return made


def matches(recognition: Identification) -> list[str | None]:
    return [face.decision.match.name if face.decision.match else None for face in recognition.faces]


async def test_every_face_of_a_group_is_recognized_and_the_stranger_is_not(
    session: AsyncSession, encoders: Encoders, people: dict[str, str]
) -> None:
    group = draw_people(["Bob", "a stranger", "Ada"], variation=3)
    recognition = await recognize_picture(session, encoders, "staff", group)
    assert matches(recognition) == ["Bob", None, "Ada"]
    assert [face.decision.outcome for face in recognition.faces] == ["match", "no_match", "match"]
    assert recognition.threshold == encoders.default.threshold
    stranger = recognition.faces[1]
    assert {candidate.name for candidate in stranger.decision.candidates} == {"Ada", "Bob"}
    assert stranger.face is not None
    assert recognition.faces[2].decision.match is not None
    assert recognition.faces[2].decision.match.person_id == people["Ada"]


async def test_an_image_without_a_face_has_no_faces_in_the_answer(
    session: AsyncSession, encoders: Encoders, people: dict[str, str]
) -> None:
    assert (await recognize_picture(session, encoders, "staff", draw_nobody())).faces == []


async def test_an_empty_gallery_recognizes_nobody(session: AsyncSession, encoders: Encoders, gallery: Gallery) -> None:
    recognition = await recognize_picture(session, encoders, "staff", draw_people(["Ada"]))
    assert matches(recognition) == [None]
    assert recognition.faces[0].decision.candidates == ()


async def test_the_threshold_of_the_request_replaces_that_of_the_gallery_and_of_the_space(
    session: AsyncSession, encoders: Encoders, gallery: Gallery, people: dict[str, str]
) -> None:
    probe = draw_people(["Ada"], variation=1)
    await update_gallery(session, gallery, threshold=1.0)
    await session.commit()
    recognition = await recognize_picture(session, encoders, "staff", probe)
    assert (matches(recognition), recognition.threshold) == ([None], 1.0)
    recognition = await recognize_picture(session, encoders, "staff", probe, threshold=0.3, limit=1)
    assert (matches(recognition), recognition.threshold) == (["Ada"], 0.3)
    assert len(recognition.faces[0].decision.candidates) == 1


async def test_embeddings_are_probes_too(
    session: AsyncSession, encoders: Encoders, gallery: Gallery, people: dict[str, str]
) -> None:
    faces = await encoders.encode(gallery.space, draw_people(["Ada", "a stranger"], variation=2))
    recognition = await recognize_embeddings(session, "staff", [face.embedding for face in faces])
    assert matches(recognition) == ["Ada", None]
    assert all(face.face is None for face in recognition.faces)


@pytest.mark.parametrize("values", [[1.0] * 3, [0.0] * 512, [float("nan")] * 512])
async def test_an_embedding_that_cannot_be_compared_is_refused(
    session: AsyncSession, gallery: Gallery, values: list[float]
) -> None:
    with pytest.raises(InvalidEmbedding):
        await recognize_embeddings(session, "staff", [values])


async def test_a_wrong_request_says_what_is_wrong(session: AsyncSession, encoders: Encoders, gallery: Gallery) -> None:
    probe = draw_people(["Ada"])
    with pytest.raises(NotFound):
        await recognize_picture(session, encoders, "nobody", probe)
    with pytest.raises(UnsupportedImageFormat):
        await recognize_picture(session, encoders, "staff", b"this is a text")
    for limit in (0, 101):
        with pytest.raises(InvalidRequest):
            await recognize_picture(session, encoders, "staff", probe, limit=limit)
    with pytest.raises(InvalidRequest):
        await recognize_picture(session, encoders, "staff", probe, threshold=1.5)
    with pytest.raises(InvalidRequest):
        await recognize_embeddings(session, "staff", [])


async def test_a_gallery_for_verification_only_identifies_nobody(
    session: AsyncSession, encoders: Encoders, gallery: Gallery, people: dict[str, str]
) -> None:
    await update_gallery(session, gallery, verification_only=True)
    await session.commit()
    with pytest.raises(Forbidden):
        await recognize_picture(session, encoders, "staff", draw_people(["Ada"]))
    with pytest.raises(Forbidden):
        await recognize_embeddings(session, "staff", [np.ones(512)])
    assert (await verify_picture(session, encoders, "staff", people["Ada"], draw_people(["Ada"]))).verified


async def test_another_tenants_gallery_is_not_found(
    other_session: AsyncSession, encoders: Encoders, gallery: Gallery
) -> None:
    with pytest.raises(NotFound):
        await recognize_picture(other_session, encoders, "staff", draw_people(["Ada"]))


async def test_a_gallery_without_its_encoder_refuses_images_and_names_both_encoders(
    session: AsyncSession, encoders: Encoders
) -> None:
    await create_gallery(session, "other", space_of(512))
    await create_gallery(session, "elsewhere", external_space("external:x:512") or space_of(512))
    await session.commit()
    with pytest.raises(EncoderUnavailable, match=r"invented:cosine:512.*fake"):
        await recognize_picture(session, encoders, "other", draw_people(["Ada"]))
    with pytest.raises(EmbeddingSpaceMismatch, match="made elsewhere"):
        await recognize_picture(session, encoders, "elsewhere", draw_people(["Ada"]))
    recognition = await recognize_embeddings(session, "elsewhere", [np.ones(512)])
    assert matches(recognition) == [None]


class SlowEncoders:
    """The fake encoder with a model that works until the test lets it end."""

    def __init__(self, encoders: Encoders) -> None:
        self._encoders = encoders
        self.working = 0
        self.somebody_works = asyncio.Event()
        self.everybody_works = asyncio.Event()
        self.may_end = asyncio.Event()

    async def encode(self, *values: object, **named: object) -> object:
        self.working += 1
        self.somebody_works.set()
        if self.working == 20:
            self.everybody_works.set()
        await self.may_end.wait()
        return await self._encoders.encode(*values, **named)  # type: ignore[arg-type]


async def test_no_connection_is_held_while_the_model_works(
    make_pool: MakePool, encoders: Encoders, tenant_id: int, people: dict[str, str]
) -> None:
    """One connection serves twenty requests whose models all work, and another request at the same time."""
    engine = make_pool(1)
    slow = SlowEncoders(encoders)

    async def recognize() -> list[str | None]:
        async with tenant_session(engine, tenant_id) as session:
            return matches(await recognize_picture(session, slow, "staff", draw_people(["Ada"], variation=1)))  # type: ignore[arg-type]

    requests = [asyncio.create_task(recognize()) for _ in range(20)]
    await asyncio.wait_for(slow.everybody_works.wait(), GUARD_SECONDS)
    async with tenant_session(engine, tenant_id) as session:
        probe = (await encoders.encode(encoders.default, draw_people(["Bob"])))[0].embedding
        other = await recognize_embeddings(session, "staff", [probe])
    assert matches(other) == ["Bob"]
    slow.may_end.set()
    assert await asyncio.gather(*requests) == [["Ada"]] * 20


@pytest.mark.parametrize("is_made_again", [False, True])
async def test_a_gallery_deleted_while_the_model_works_is_not_found(
    database: Database, encoders: Encoders, gallery: Gallery, people: dict[str, str], is_made_again: bool
) -> None:
    slow = SlowEncoders(encoders)
    image = draw_people(["Ada"], variation=1)

    async def recognize() -> Identification:
        async with tenant_session(database.engine, gallery.tenant_id) as session:
            return await recognize_picture(session, slow, "staff", image)  # type: ignore[arg-type]

    request = asyncio.create_task(recognize())
    await asyncio.wait_for(slow.somebody_works.wait(), GUARD_SECONDS)
    async with tenant_session(database.engine, gallery.tenant_id) as other:
        await delete_gallery(other, gallery)
        if is_made_again:
            await create_gallery(other, gallery.name, gallery.space)
        await other.commit()
    slow.may_end.set()
    with pytest.raises(NotFound):
        await request
