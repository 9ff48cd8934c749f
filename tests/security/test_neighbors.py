"""The data of one tenant change neither the answers nor the times of another."""

import statistics
import time

import numpy as np
import pytest

from service.database.connection import Database
from service.database.session import tenant_session
from service.embedding import external_space
from service.gallery.bulk_writing import ReferenceRow, add_references, finish_load
from service.gallery.galleries import create_gallery, find_gallery
from service.gallery.search.search import Candidate, search
from tests.support.tenants import embedding_of, fill_tenant

OWN_FACES = 2_000
FOREIGN_FACES = 60_000
BATCH = 2_000
SEARCHES = 150
LARGEST_RATIO = 1.5


async def load(database: Database, tenant_id: int, gallery_name: str, faces: int, mark: str) -> None:
    """Make a gallery of `count` people with a face each."""
    space = external_space("external:neighbors:512")
    assert space is not None
    chance = np.random.default_rng(len(mark))
    async with tenant_session(database.engine, tenant_id) as session:
        gallery = await create_gallery(session, gallery_name, space)
        for first in range(0, faces, BATCH):
            matrix = chance.standard_normal((BATCH, 512)).astype(np.float32)
            rows = [ReferenceRow(f"{mark} {first + row}", None, values) for row, values in enumerate(matrix)]
            await add_references(session, gallery, rows)
        await session.commit()
    await finish_load(database.engine)


async def ask(database: Database, tenant_id: int) -> tuple[float, list[list[Candidate]]]:
    """Return the median of searches in milliseconds, and their results."""
    seconds, found = [], []
    async with tenant_session(database.engine, tenant_id) as session:
        for number in range(SEARCHES):
            begun = time.perf_counter()
            gallery = await find_gallery(session, "hall")
            found += await search(session, gallery, [embedding_of(f"probe {number}")])
            await session.commit()
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds) * 1000, found


@pytest.mark.long
async def test_a_large_neighbor_is_not_felt(database: Database) -> None:
    own, neighbor = await fill_tenant(database), await fill_tenant(database)
    await load(database, own.number, "hall", OWN_FACES, "own")
    before, found_before = min([await ask(database, own.number) for _ in range(3)], key=lambda one: one[0])
    await load(database, neighbor.number, "hall", FOREIGN_FACES, "foreign")
    after, found_after = min([await ask(database, own.number) for _ in range(3)], key=lambda one: one[0])
    print(f"p50 of a search among {OWN_FACES} faces: {before:.2f} ms alone, {after:.2f} ms beside {FOREIGN_FACES}")
    assert found_after == found_before
    assert all(candidate.name.startswith("own ") for candidates in found_after for candidate in candidates)
    assert after < before * LARGEST_RATIO
