"""`python -m benchmarks.galleries` searches one of 10,000 galleries of 100 faces, and one alone in its database.

The same gallery is searched first alone and then among all the others. The planning time is the server's own figure.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import keep, table
from benchmarks.search.crowds import make_crowd, make_probes
from benchmarks.search.peers.ours import bytes_of_tables, make_tenant
from benchmarks.search.server import open_migrated
from service.database.connection import Database
from service.database.session import driver_of, tenant_session
from service.embedding import EmbeddingSpace, external_space
from service.gallery.bulk_writing import ReferenceRow, add_references, finish_load
from service.gallery.galleries import Gallery, create_gallery, find_gallery
from service.gallery.search.plans import SearchPath
from service.gallery.search.search import search
from service.gallery.search.statements import StatementShape, statement

FACES = 100
REFERENCES = 5
SEARCHES = 400
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.galleries", description=__doc__)
    parser.add_argument("--galleries", type=int, default=10_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="face-identity-bench-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user
        result = asyncio.run(_measure(Path(folder), asked.galleries))
    rows = [[where, *result[where].values()] for where in ("alone", "among others")]
    print(table(["gallery", *result["alone"]], rows))
    print(
        f"among {asked.galleries:,} galleries {result['ratio']:.2f} times as long; kept in {keep('galleries', result)}"
    )


async def _measure(folder: Path, galleries: int) -> dict[str, Any]:
    space = external_space("external:benchmark:512")
    assert space is not None
    async with open_migrated(folder) as database:
        tenant = await make_tenant(database)
        await _load(database, tenant, space, range(1))
        alone = await _time(database, tenant)
        for start in range(1, galleries, 100):
            await _load(database, tenant, space, range(start, min(start + 100, galleries)))
            print(f"\r{start:,} galleries", end="", flush=True)
        await finish_load(database.engine)
        among = await _time(database, tenant)
        return {
            "galleries": galleries,
            "faces a gallery": FACES,
            "alone": alone,
            "among others": among,
            "ratio": among["p50 ms"] / alone["p50 ms"],
            "bytes": bytes_of_tables(database),
        }


async def _load(database: Database, tenant: int, space: EmbeddingSpace, numbers: range) -> None:
    async with tenant_session(database.engine, tenant) as session:
        for number in numbers:
            crowd = make_crowd("isotropic", FACES // REFERENCES, REFERENCES, 512, seed=number)
            gallery = await create_gallery(session, f"gallery {number}", space)
            pairs = zip(crowd.people, crowd.embeddings, strict=True)
            await add_references(session, gallery, [ReferenceRow(str(person), None, row) for person, row in pairs])
        await session.commit()
    if len(numbers) == 1:
        await finish_load(database.engine)


async def _time(database: Database, tenant: int) -> dict[str, float]:
    """Return the median of the best round for a lookup of the gallery and a search, in one transaction."""
    probes = make_probes(make_crowd("isotropic", FACES // REFERENCES, REFERENCES, 512), SEARCHES // 4).embeddings
    medians = []
    for _ in range(ROUNDS):
        seconds = []
        for probe in probes:
            began = time.perf_counter()
            async with tenant_session(database.engine, tenant) as session:
                await search(session, await find_gallery(session, "gallery 0"), [probe])
                await session.commit()
            seconds.append(time.perf_counter() - began)
        medians.append(1e3 * float(np.median(seconds)))
    return {"p50 ms": min(medians), "planning ms": await _planning(database, tenant)}


async def _planning(database: Database, tenant: int) -> float:
    """Return the median planning time of the statement for the largest galleries, not prepared."""
    async with tenant_session(database.engine, tenant) as session:
        gallery: Gallery = await find_gallery(session, "gallery 0")
        driver = await driver_of(session)
        searching = statement(StatementShape(SearchPath.PEOPLE, is_bounded=True))
        query = f"EXPLAIN (SUMMARY, FORMAT JSON) {searching}"
        values = {
            "tenant": tenant,
            "gallery": gallery.id,
            "limit": 5,
            "rerank_limit": 60,
            "max_distance": 460.0,
            "metadata": None,
        }
        values |= {"vectors": json.dumps([1.0] * 512), "codes": "01" * 512, "face_codes": None, "mean_of": 1}
        found = []
        for _ in range(21):
            row = await (await driver.execute(query, values, prepare=False)).fetchone()
            assert row is not None
            found.append(float(row[0][0]["Planning Time"]))
    return float(np.median(found))


if __name__ == "__main__":
    main()
