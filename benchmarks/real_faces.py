"""`python -m benchmarks.real_faces` searches real people, encoded by real networks, in a crowd of invented people.

Each person's last image is the probe and the others are references. Real embeddings are not spread as evenly as
invented embeddings, and this benchmark tests search on them. They are few, so it shows no error rates.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import keep, table
from benchmarks.search.crowds import Matrix
from benchmarks.search.peers.ours import make_tenant
from benchmarks.search.server import open_migrated, settings_in
from service.database.connection import Database
from service.database.session import tenant_session
from service.embedding import EmbeddingSpace
from service.encoder.opening import open_encoders
from service.gallery.bulk_writing import ReferenceRow, add_references, finish_load
from service.gallery.galleries import Gallery, create_gallery, find_gallery
from service.gallery.search.plans import Plan, choose, exact, plan_inputs
from service.gallery.search.search import search, search_by
from service.identity.people_folders import find_portraits
from service.identity.portraits import EncodedPortraits, encode_portraits

SHARED = Path(__file__).parents[2] / "shared"
PACKS = ("scrfd2.5g-mobilefacenet128", "scrfd500m-mobilefacenet128")
CROWDS = (0, 10_000, 100_000)
BATCH = 2000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_faces", description=__doc__)
    parser.add_argument("--people", type=Path, default=SHARED / "faces" / "people", help="a folder a person")
    packs = [f"insightface:{SHARED / 'models' / name}" for name in PACKS]
    parser.add_argument("--encoders", nargs="*", default=["dlib", *packs], help="as in ENCODER")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for encoder in asked.encoders:
        with tempfile.TemporaryDirectory(prefix="face-identity-bench-") as folder:
            Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user
            rows += asyncio.run(_measure(Path(folder), encoder, asked.people))
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    print(f"kept in {keep('real_faces', {'rows': rows})}")


async def _measure(folder: Path, encoder: str, people: Path) -> list[dict[str, Any]]:
    encoders = open_encoders(settings_in(folder).model_copy(update={"encoder": [encoder]}))
    space = encoders.default
    real, failures = await encode_portraits(encoders, space, find_portraits(people))
    encoders.close()
    assert not failures, failures
    rows = []
    async with open_migrated(folder) as database:
        tenant = await make_tenant(database)
        for count in CROWDS:
            gallery = await _load(database, tenant, space, real, count)
            rows.append(await _ask(database, gallery, real))
            print(rows[-1], flush=True)
    return rows


async def _load(
    database: Database, tenant: int, space: EmbeddingSpace, real: Sequence[EncodedPortraits], count: int
) -> Gallery:
    """Enroll all images of a person but the last (or the only image), and `count` invented people of one face."""
    known = [ReferenceRow(person.name, None, row) for person in real for _, row in _references(person)]
    others = _invented(real, count)
    async with tenant_session(database.engine, tenant) as session:
        gallery = await create_gallery(session, f"among {count}", space)
        await add_references(session, gallery, known)
        for start in range(0, count, BATCH):
            batch = enumerate(others[start : start + BATCH], start)
            await add_references(
                session, gallery, [ReferenceRow(f"invented {place}", None, row) for place, row in batch]
            )
        await session.commit()
    await finish_load(database.engine)
    async with tenant_session(database.engine, tenant) as session:
        return await find_gallery(session, gallery.name)


def _references(person: EncodedPortraits) -> Sequence[tuple[str, Matrix]]:
    return person.embeddings[:-1] or person.embeddings


def _invented(real: Sequence[EncodedPortraits], count: int) -> Matrix:
    """Return embeddings with the mean and deviation of the real embeddings in every dimension."""
    known = np.stack([row for person in real for _, row in person.embeddings])
    noise = np.random.default_rng(5).standard_normal((count, known.shape[1]), dtype=np.float32)
    crowd: Matrix = known.mean(axis=0) + noise * known.std(axis=0)
    return crowd


async def _ask(database: Database, gallery: Gallery, real: Sequence[EncodedPortraits]) -> dict[str, Any]:
    probes = [(person.name, person.embeddings[-1][1]) for person in real if len(person.embeddings) > 1]
    embeddings = [embedding for _, embedding in probes]
    plan: Plan = choose(plan_inputs(gallery), 5)
    async with tenant_session(database.engine, gallery.tenant_id) as session:
        found = [candidates[0] for candidates in await search(session, gallery, embeddings)]
        expected = [candidates[0] for candidates in await search_by(session, gallery, exact(), embeddings)]
    pairs = list(zip((name for name, _ in probes), found, strict=True))
    return {
        "encoder": Path(gallery.space.name).name,
        "dimension": gallery.space.dimension,
        "faces": gallery.faces,
        "way": plan.path.value,
        "named right": f"{sum(best.name == name for name, best in pairs)}/{len(probes)}",
        "above the threshold": sum(best.name == name and best.similarity >= gallery.threshold for name, best in pairs),
        "as the exact search": sum(
            one.person_id == other.person_id for one, other in zip(found, expected, strict=True)
        ),
    }


if __name__ == "__main__":
    main()
