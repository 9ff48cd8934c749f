"""Searches of many probes: their cost, and the slices between which other tenants have their turns."""

import asyncio

import numpy as np
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.session import tenant_session
from service.embedding import external_space
from service.gallery.faces import NewFace, add_faces
from service.gallery.galleries import Gallery, create_gallery, find_gallery
from service.gallery.people import create_person
from service.gallery.search import turns
from service.gallery.search.plans import choose, plan_inputs
from service.gallery.search.search import search
from service.gallery.search.turns import probes_per_slice, units_of
from service.turns import act_for
from tests.conftest import MakePool

PEOPLE = 20
PROBES = [np.random.default_rng(number).standard_normal(8).astype(np.float32) for number in range(300)]


async def gallery_of_people(session: AsyncSession) -> Gallery:
    """A gallery of 20 people, one reference each."""
    space = external_space("external:test:8")
    assert space is not None
    gallery = await create_gallery(session, "staff", space)
    for number in range(PEOPLE):
        person = await create_person(session, gallery, f"person {number}")
        await add_faces(session, gallery, person, [NewFace(PROBES[number])])
    await session.commit()
    gallery = await find_gallery(session, "staff")
    await session.rollback()
    return gallery


@pytest.mark.parametrize(
    ("references", "probes", "units"),
    [
        ([0], 0, 1),
        ([1], 1, 1),
        ([1_000_000], 1, 1),
        ([1_000_001], 1, 2),
        ([1], 1000, 10),
        ([100_000], 1000, 100),
        ([500_000, 500_000], 10, 10),
    ],
)
def test_a_search_costs_probes_times_references(references: list[int], probes: int, units: int) -> None:
    assert units_of(references, probes) == units


async def test_slices_find_the_same_as_one_statement(session: AsyncSession, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = await gallery_of_people(session)
    whole = await search(session, gallery, PROBES, limit=3)
    monkeypatch.setattr(turns, "SLICE_MICROSECONDS", 100.0)
    size = probes_per_slice(choose(plan_inputs(gallery), 3), plan_inputs(gallery))
    assert 1 < size < len(PROBES) / 10
    assert await search(session, gallery, PROBES, limit=3) == whole


async def test_other_tenants_have_their_turns_between_the_slices_of_a_big_batch(
    make_pool: MakePool, session: AsyncSession, other_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All searches share one connection. Without slices the small searches would wait for the whole batch."""
    monkeypatch.setattr(turns, "SLICE_MICROSECONDS", 1.0)  # one probe in each slice
    big, small = await gallery_of_people(session), await gallery_of_people(other_session)
    engine = make_pool(1)
    order: list[str] = []

    async def ask(gallery: Gallery, probes: int, name: str) -> None:
        act_for(gallery.tenant_id)
        async with tenant_session(engine, gallery.tenant_id) as own:
            await search(own, gallery, PROBES[:probes])
        order.append(name)

    async def ask_often() -> None:
        for _ in range(5):
            await ask(small, 1, "small")

    await asyncio.gather(ask(big, len(PROBES), "big"), ask(big, len(PROBES), "big"), ask_often())
    assert order == ["small"] * 5 + ["big"] * 2
