"""`python -m benchmarks.growth` tries successors of the code index of people on one gallery of millions.

It tests only the candidate step: whether the mate's template is among the candidates, and how long the step takes. It
compares one process with two, a separate partition, and HNSW over the codes in a separate relation.
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from benchmarks.machine import keep, table
from benchmarks.search.crowds import COSINES, Crowd, Probes, make_crowd, make_probes
from benchmarks.search.server import settings_in
from service.database.connection import open_database
from service.database.logins import connect
from service.gallery.codes import TEMPLATE_BITS, Codes, template_codes
from service.gallery.search.distances import CodeGeometry, max_distance, share_of_strangers
from service.gallery.templates import CLOSE

KIND = CodeGeometry(512, TEMPLATE_BITS, CLOSE)
BOUND = max_distance(KIND, 0.4)
PROBES = 100
AT_ONCE = 50_000
EF_SEARCH = (100, 400, 1000)

SCAN = """SELECT person FROM {table} WHERE gallery = 0 AND code <~> %(code)s <= %(bound)s
    ORDER BY code <~> %(code)s LIMIT %(rerank_limit)s"""
GRAPH = "SELECT person FROM graph ORDER BY code <~> %(code)s LIMIT %(rerank_limit)s"


@dataclass(frozen=True)
class Asked:
    """Probes with their codes, and the greatest number of candidates of a step."""

    probes: Probes
    codes: Codes
    rerank_limit: int


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--templates", type=int, default=1_000_000)
    parser.add_argument("--no-graph", action="store_true", help="leave HNSW out: its build takes long")
    asked = parser.parse_args()
    crowd = make_crowd("isotropic", asked.templates, 1, 512)
    probes = make_probes(crowd, PROBES)
    with tempfile.TemporaryDirectory(prefix="face-identity-bench-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user
        database = open_database(settings_in(Path(folder)))
        with connect(database.logins.administrator) as connection:
            rows = _try_all(connection, crowd, probes, with_graph=not asked.no_graph)
        asyncio.run(database.close())
    print(table(list(rows[0]), [list(row.values()) for row in rows]))
    print(f"kept in {keep(f'growth-{asked.templates}', {'templates': asked.templates, 'rows': rows})}")


def _try_all(
    connection: psycopg.Connection[Any], crowd: Crowd, probes: Probes, *, with_graph: bool
) -> list[dict[str, Any]]:
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector; SET plan_cache_mode = force_generic_plan")
    connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET maintenance_work_mem = '6GB'")
    rerank_limit = int(4 * crowd.size * share_of_strangers(KIND, BOUND))
    asked = Asked(probes, template_codes(probes.embeddings), rerank_limit)
    _fill(connection, crowd)
    rows = [_ask(connection, "shared table, one process", SCAN.format(table="template"), asked)]
    connection.execute(
        "SET max_parallel_workers_per_gather = 1; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0"
    )
    rows.append(_ask(connection, "shared table, two processes", SCAN.format(table="template") + " /**/", asked))
    connection.execute("SET max_parallel_workers_per_gather = 0")
    _partition(connection)
    rows.append(_ask(connection, "partition of the gallery", SCAN.format(table="partitioned"), asked))
    if with_graph:
        rows += _graph(connection, asked)
    return rows


def _fill(connection: psycopg.Connection[Any], crowd: Crowd) -> None:
    connection.execute("CREATE TABLE template (tenant int, gallery int, person bigint, code varbit)")
    connection.execute("ALTER TABLE template ALTER COLUMN code SET STORAGE PLAIN")
    for gallery, rows in ((0, crowd.embeddings), (1, make_crowd("isotropic", crowd.size // 10, 1, 512, 5).embeddings)):
        _copy(connection, gallery, rows)
    connection.execute("CREATE INDEX ON template (gallery, person) INCLUDE (code) WITH (fillfactor = 100)")
    connection.execute("VACUUM ANALYZE template")


def _copy(connection: psycopg.Connection[Any], gallery: int, embeddings: npt.NDArray[np.float32]) -> None:
    with connection.cursor().copy("COPY template (gallery, person, code) FROM STDIN") as copy:
        for start in range(0, len(embeddings), AT_ONCE):
            codes = template_codes(np.asarray(embeddings[start : start + AT_ONCE]))
            lines = [f"{gallery}\t{start + place}\tx{code.tobytes().hex()}\n" for place, code in enumerate(codes)]
            copy.write("".join(lines))


def _partition(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE partitioned (LIKE template) PARTITION BY LIST (gallery)")
    for gallery in (0, 1):
        connection.execute(f"CREATE TABLE part_{gallery} PARTITION OF partitioned FOR VALUES IN ({gallery})")
    connection.execute("ALTER TABLE part_0 ALTER COLUMN code SET STORAGE PLAIN")
    connection.execute("INSERT INTO partitioned SELECT * FROM template WHERE gallery = 0 ORDER BY person")
    connection.execute("CREATE INDEX ON partitioned (gallery, person) INCLUDE (code) WITH (fillfactor = 100)")
    connection.execute("VACUUM ANALYZE partitioned")


def _graph(connection: psycopg.Connection[Any], asked: Asked) -> list[dict[str, Any]]:
    began = time.perf_counter()
    connection.execute(
        f"CREATE TABLE graph AS SELECT person, code::bit({TEMPLATE_BITS}) AS code FROM template WHERE gallery = 0"
    )
    connection.execute("CREATE INDEX ON graph USING hnsw (code bit_hamming_ops) WITH (m = 16, ef_construction = 128)")
    built = time.perf_counter() - began
    rows = []
    for ef in EF_SEARCH:
        connection.execute(f"SET hnsw.ef_search = {ef}")
        rows.append(
            _ask(
                connection, f"HNSW over codes, ef {ef}, built in {built:.0f} s", GRAPH, replace(asked, rerank_limit=ef)
            )
        )
    return rows


def _ask(connection: psycopg.Connection[Any], name: str, query: str, asked: Asked) -> dict[str, Any]:
    mates, codes = asked.probes.mates, asked.codes
    found, seconds, given = np.zeros(len(codes), bool), np.empty(len(codes)), []
    text = query.replace("%(code)s", f"CAST(%(code)s AS {'bit(1024)' if 'graph' in query else 'varbit'})")
    for place, code in enumerate(codes):
        values = {"code": "".join(f"{byte:08b}" for byte in code), "bound": BOUND, "rerank_limit": asked.rerank_limit}
        began = time.perf_counter()
        people = [row[0] for row in connection.execute(text, values, prepare=True)]
        seconds[place] = time.perf_counter() - began
        found[place] = int(mates[place]) in people
        given.append(len(people))
    row: dict[str, Any] = {"step": name, "p50 ms": 1e3 * float(np.median(seconds)), "gives": int(np.median(given))}
    for cosine in COSINES:
        at_cosine = asked.probes.cosines == np.float32(cosine)
        row[f"mates at {cosine}"] = f"{int(np.sum(found & at_cosine))}/{int(np.sum(at_cosine))}"
    return row


if __name__ == "__main__":
    main()
