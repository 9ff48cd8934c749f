"""The data of one tenant change neither the results of another tenant nor how many pages its searches read."""

from typing import Any

import numpy as np
import pytest

from service.database.connection import Database
from service.database.session import driver_of, tenant_session
from service.embedding import external_space
from service.gallery.bulk_writing import ReferenceRow, add_references, finish_load
from service.gallery.codes import face_codes, template_codes
from service.gallery.galleries import create_gallery, find_gallery
from service.gallery.search.plans import choose, plan_inputs
from service.gallery.search.search import Candidate, form_of, search
from service.gallery.search.statements import statement
from tests.support.tenants import embedding_of, fill_tenant

OWN_FACES = 2_000
FOREIGN_FACES = 60_000
BATCH = 2_000
SEARCHES = 50


async def load(database: Database, tenant_id: int, gallery_name: str, faces: int, mark: str) -> None:
    """Make a gallery of `faces` people with one face each."""
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


async def results(database: Database, tenant_id: int) -> list[list[Candidate]]:
    """Return the results of all searches."""
    probes = [embedding_of(f"probe {number}") for number in range(SEARCHES)]
    async with tenant_session(database.engine, tenant_id) as session:
        return await search(session, await find_gallery(session, "hall"), probes)


async def pages_read(database: Database, tenant_id: int) -> list[int]:
    """Return the number of pages that the statement of each search reads, from memory or from disk."""
    pages = []
    async with tenant_session(database.engine, tenant_id) as session:
        gallery = await find_gallery(session, "hall")
        plan = choose(plan_inputs(gallery), 5)
        form = form_of(plan, gallery.space, is_filtered=False, mean_of=1, has_many_probes=False)
        driver = await driver_of(session)
        for number in range(SEARCHES):
            values = parameters(embedding_of(f"probe {number}")) | {
                "tenant": tenant_id,
                "gallery": gallery.id,
                "limit": 5,
                "rerank_limit": plan.rerank_limit,
                "max_distance": plan.max_distance,
                "max_distance_single_reference": plan.max_distance_single_reference,
            }
            explained = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement(form)}"
            row = await (await driver.execute(explained, values)).fetchone()
            assert row is not None
            root = row[0][0]["Plan"]
            pages.append(root["Shared Hit Blocks"] + root["Shared Read Blocks"])
    return pages


def parameters(probe: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, str]:
    """Return the probe and its codes as text."""
    row = (probe / np.linalg.norm(probe))[np.newaxis]
    codes = {"codes": template_codes(row), "face_codes": face_codes(row)}
    bits = {name: "".join(map(str, np.unpackbits(code))) for name, code in codes.items()}
    return bits | {"vectors": "[" + ",".join(map(str, row[0])) + "]"}


@pytest.mark.long
async def test_a_large_neighbor_changes_neither_results_nor_pages_read(database: Database) -> None:
    """A deeper index costs a page for each lookup: one for the templates, and one for each face and person."""
    own, neighbor = await fill_tenant(database), await fill_tenant(database)
    await load(database, own.number, "hall", OWN_FACES, "own")
    found_before, pages_before = await results(database, own.number), await pages_read(database, own.number)
    await load(database, neighbor.number, "hall", FOREIGN_FACES, "foreign")
    found_after, pages_after = await results(database, own.number), await pages_read(database, own.number)
    assert found_after == found_before
    assert all(candidate.name.startswith("own ") for candidates in found_after for candidate in candidates)
    print(f"pages of a search: {np.median(pages_before)} alone, {np.median(pages_after)} beside {FOREIGN_FACES} faces")
    assert max(after / before for before, after in zip(pages_before, pages_after, strict=True)) < 1.5
