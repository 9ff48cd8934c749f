"""pgvector as in its first example: a `vector` column and a filter on the gallery; or one HNSW for all galleries."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from benchmarks.search.crowds import Matrix
from benchmarks.search.peers.contract import CANDIDATES, Peer
from benchmarks.search.server import memory_of, settings_in
from benchmarks.search.workload import Workload
from service.database.addresses import conninfo
from service.database.connection import Database, open_database

OTHERS = 10
"""Galleries beside the searched gallery. Together they are as large as it, up to MOST_OTHERS faces."""
MOST_OTHERS = 100_000


class NaivePgvector(Peer):
    """Exact: reads every vector of the gallery with its row."""

    most_faces = 100_000
    note = "vector(n) WHERE gallery_id, exact; as superuser, no row-level security"
    index = "CREATE INDEX ON faces (gallery_id)"
    setting = ""

    def build(self, workload: Workload, folder: Path) -> None:
        self._folder = folder
        self._open()
        self._empty = memory_of(folder)
        with self._connect() as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            register_vector(connection)
            columns = f"gallery_id integer, person_id bigint, embedding vector({workload.dimension})"
            connection.execute(f"CREATE TABLE faces (id bigserial PRIMARY KEY, {columns})")
            self._copy(connection, np.asarray(workload.crowd.embeddings), workload.crowd.people, 0)
            random = np.random.default_rng(9)
            others = random.standard_normal((min(workload.crowd.size, MOST_OTHERS), workload.dimension), np.float32)
            self._copy(connection, others, np.arange(len(others)), OTHERS)
            connection.execute("SET maintenance_work_mem = '4GB'")
            connection.execute(self.index)
            connection.execute("VACUUM ANALYZE faces")
        self._clients = threading.local()

    def _copy(self, connection: psycopg.Connection[Any], rows: Matrix, people: Any, galleries: int) -> None:
        statement = "COPY faces (gallery_id, person_id, embedding) FROM STDIN (FORMAT BINARY)"
        with connection.cursor().copy(statement) as copy:
            copy.set_types(["int4", "int8", "vector"])
            for place, (person, row) in enumerate(zip(people, rows, strict=True)):
                copy.write_row((1 + place % galleries if galleries else 0, int(person), row))

    def _open(self) -> None:
        self._database: Database = open_database(settings_in(self._folder))

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(conninfo(self._database.logins.administrator), autocommit=True)
        if connection.execute("SELECT to_regtype('vector')").fetchone() != (None,):
            register_vector(connection)
        if self.setting:
            connection.execute(self.setting)
        return connection

    def search(self, probe: Matrix) -> tuple[int, float]:
        if not hasattr(self._clients, "connection"):
            self._clients.connection = self._connect()
        query = """SELECT person_id, 1 - (embedding <=> %(probe)s) FROM faces WHERE gallery_id = 0
            ORDER BY embedding <=> %(probe)s LIMIT %(limit)s"""
        rows = self._clients.connection.execute(query, {"probe": probe, "limit": CANDIDATES}).fetchall()
        return (int(rows[0][0]), float(rows[0][1])) if rows else (-1, 0.0)

    def insert(self, embedding: Matrix, person: int) -> None:
        with self._connect() as connection:
            values = (person, embedding)
            connection.execute("INSERT INTO faces (gallery_id, person_id, embedding) VALUES (0, %s, %s)", values)

    def reopen(self) -> None:
        self.close()
        self._clients = threading.local()
        self._open()

    def close(self) -> None:
        if hasattr(self._clients, "connection"):
            self._clients.connection.close()
        asyncio.run(self._database.close())

    def bytes_on_disk(self) -> dict[str, int]:
        with self._connect() as connection:
            row = connection.execute("SELECT pg_total_relation_size('faces'), count(*) FROM faces").fetchone()
            own = connection.execute("SELECT count(*) FROM faces WHERE gallery_id = 0").fetchone()
        assert row is not None
        assert own is not None
        return {"total": int(row[0] * own[0] / row[1])}

    def bytes_in_memory(self) -> int:
        return memory_of(self._folder) - self._empty


class SharedHnsw(NaivePgvector):
    """One HNSW index over all galleries, filtered afterwards, with an iterative scan until enough rows are found."""

    note = "HNSW m 16, ef_construction 64, ef_search 100, iterative scan, shared by 11 galleries"
    index = "CREATE INDEX ON faces USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)"
    setting = "SET hnsw.ef_search = 100; SET hnsw.iterative_scan = 'relaxed_order'; SET enable_seqscan = off"
