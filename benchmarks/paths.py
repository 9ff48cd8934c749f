"""`python -m benchmarks.paths` measures every search plan on galleries of many shapes, and its estimated cost."""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import keep, table
from benchmarks.search.crowds import make_crowd, make_probes
from benchmarks.search.peers.ours import make_tenant
from benchmarks.search.server import open_migrated
from service.database.connection import Database
from service.database.session import tenant_session
from service.embedding import external_space
from service.gallery.bulk_writing import ReferenceRow, add_references, finish_load
from service.gallery.galleries import Gallery, create_gallery, find_gallery
from service.gallery.search.plans import Plan, choose, cost, plan_inputs, plans
from service.gallery.search.search import search_by

SHAPES = [(100, 5), (300, 5), (1_000, 1), (1_000, 5), (3_000, 5), (10_000, 1), (10_000, 5), (10_000, 200), (50_000, 5)]
"""Numbers of faces, and of references for each person."""
LIMIT = 5
SEARCHES = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paths", description=__doc__)
    parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="face-identity-bench-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user
        rows = asyncio.run(_measure(Path(folder)))
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    print(f"kept in {keep('paths', {'rows': rows})}")


async def _measure(folder: Path) -> list[dict[str, Any]]:
    rows = []
    async with open_migrated(folder) as database:
        tenant = await make_tenant(database)
        for faces, references in SHAPES:
            gallery = await _load(database, tenant, faces, references)
            chosen = choose(plan_inputs(gallery), LIMIT)
            for plan in plans(plan_inputs(gallery), LIMIT):
                milliseconds = await _time(database, gallery, plan)
                rows.append(_row(gallery, references, plan, milliseconds, chosen))
                print(rows[-1], flush=True)
    return rows


def _row(gallery: Gallery, references: int, plan: Plan, milliseconds: float, chosen: Plan) -> dict[str, Any]:
    return {
        "faces": gallery.faces,
        "references a person": references,
        "way": plan.path.value,
        "bound": plan.max_distance,
        "rerank_limit": plan.rerank_limit,
        "p50 ms": milliseconds,
        "price ms": cost(plan, plan_inputs(gallery)) / 1000,
        "chosen": "x" if plan == chosen else "",
    }


async def _load(database: Database, tenant: int, faces: int, references: int) -> Gallery:
    crowd = make_crowd("isotropic", max(1, faces // references), references, 512)
    space = external_space("external:benchmark:512")
    assert space is not None
    name = f"{faces} by {references}"
    async with tenant_session(database.engine, tenant) as session:
        gallery = await create_gallery(session, name, space)
        for start in range(0, crowd.size, 2000):
            pairs = zip(crowd.people[start : start + 2000], crowd.embeddings[start : start + 2000], strict=True)
            await add_references(session, gallery, [ReferenceRow(str(person), None, row) for person, row in pairs])
        await session.commit()
    await finish_load(database.engine)
    async with tenant_session(database.engine, tenant) as session:
        return await find_gallery(session, name)


async def _time(database: Database, gallery: Gallery, plan: Plan) -> float:
    """Return the median time of the searches alone, in one transaction."""
    probes = make_probes(make_crowd("isotropic", 10, 1, 512, seed=3), SEARCHES // 4).embeddings
    async with tenant_session(database.engine, gallery.tenant_id) as session:
        for probe in probes[:10]:
            await search_by(session, gallery, plan, [probe], LIMIT)
        seconds = []
        for probe in probes:
            began = time.perf_counter()
            await search_by(session, gallery, plan, [probe], LIMIT)
            seconds.append(time.perf_counter() - began)
    return 1e3 * float(np.median(seconds))


if __name__ == "__main__":
    main()
