"""Many requests for the same person at once."""

import asyncio

import pytest

from service.errors import Conflict
from service.gallery.galleries import Gallery
from service.gallery.people import create_person, list_people
from tests.identity.conftest import OpenSession


@pytest.mark.parametrize("external_id", [None, "7"])
async def test_only_one_of_fifty_requests_creates_the_person(
    open_session: OpenSession, gallery: Gallery, external_id: str | None
) -> None:
    async def make() -> str:
        async with open_session() as session:
            try:
                await create_person(session, gallery, "Ada", external_id)
            except Conflict:
                return "conflict"
            await session.commit()
            return "made"

    outcomes = await asyncio.gather(*(make() for _ in range(50)))
    assert sorted(outcomes) == ["conflict"] * 49 + ["made"]
    async with open_session() as session:
        assert [person.name for person in (await list_people(session, gallery)).items] == ["Ada"]
