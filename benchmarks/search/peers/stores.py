"""Stores that keep vectors in files of their own, inside this process: Qdrant Edge, LanceDB, Chroma, sqlite-vec."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.search.crowds import Matrix
from benchmarks.search.peers.contract import CANDIDATES, Peer, folder_bytes
from benchmarks.search.workload import Workload


def batches(size: int, most: int) -> Iterator[slice]:
    """Return slices that cover `size` rows."""
    return (slice(start, min(start + most, size)) for start in range(0, size, most))


class _Store(Peer):
    """A store in a folder; faces are numbered in the order in which they are added."""

    batch = 1000

    def build(self, workload: Workload, folder: Path) -> None:
        self._folder = folder
        self._dimension = workload.dimension
        self._numbers = itertools.count()
        self._create()
        for rows in batches(workload.crowd.size, self.batch):
            self._add(workload.crowd.embeddings[rows], [int(person) for person in workload.crowd.people[rows]])
        self._finish()

    def insert(self, embedding: Matrix, person: int) -> None:
        self._add(embedding[None, :], [person])

    def bytes_on_disk(self) -> dict[str, int]:
        return {"total": folder_bytes(self._folder)}

    def _create(self) -> None:
        raise NotImplementedError

    def _add(self, embeddings: Matrix, people: list[int]) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        """Do what the store recommends after a load."""


class QdrantEdge(_Store):
    """Qdrant's engine inside the process (not its server), with its defaults, optimized after the load."""

    most_faces = 100_000
    note = "qdrant-edge-py, in process; defaults, optimize() after the load"

    def _create(self) -> None:
        import qdrant_edge as edge

        self._edge = edge
        config = edge.EdgeConfig(vectors=edge.EdgeVectorParams(size=self._dimension, distance=edge.Distance.Cosine))
        self._shard = edge.EdgeShard.create(str(self._folder / "shard"), config)

    def _add(self, embeddings: Matrix, people: list[int]) -> None:
        rows = zip(embeddings.tolist(), people, strict=True)
        points = [self._edge.Point(next(self._numbers) + 1, row, {"person": person}) for row, person in rows]
        self._shard.update(self._edge.UpdateOperation.upsert_points(points))

    def _finish(self) -> None:
        self._shard.optimize()
        self._shard.flush()

    def search(self, probe: Matrix) -> tuple[int, float]:
        query = self._edge.Query.Nearest(probe.tolist())
        request = self._edge.QueryRequest(limit=CANDIDATES, query=query, with_payload=True)
        best = self._shard.query(request)[0]
        return int(best.payload["person"]), float(best.score)

    def reopen(self) -> None:
        self._shard.close()
        self._shard = self._edge.EdgeShard.load(str(self._folder / "shard"))


class LanceDb(_Store):
    """Without an index, which is exact."""

    batch = 10_000
    most_faces = 100_000
    note = "no index (exact)"

    def _create(self) -> None:
        import lancedb
        import pyarrow

        self._schema = pyarrow.schema(
            [("person", pyarrow.int64()), ("vector", pyarrow.list_(pyarrow.float32(), self._dimension))]
        )
        self._table = lancedb.connect(str(self._folder)).create_table("faces", schema=self._schema)

    def _add(self, embeddings: Matrix, people: list[int]) -> None:
        import pyarrow

        vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.reshape(-1)), self._dimension)
        self._table.add(pyarrow.table([pyarrow.array(people, pyarrow.int64()), vectors], schema=self._schema))

    def search(self, probe: Matrix) -> tuple[int, float]:
        best = self._table.search(probe).distance_type("cosine").limit(CANDIDATES).to_list()[0]
        return int(best["person"]), 1.0 - float(best["_distance"])

    def reopen(self) -> None:
        import lancedb

        self._table = lancedb.connect(str(self._folder)).open_table("faces")


class Chroma(_Store):
    """Its own HNSW, with defaults."""

    batch = 5000
    most_faces = 100_000
    note = "PersistentClient, its HNSW with defaults"

    def _create(self) -> None:
        self._collection = self._open().create_collection("faces", configuration={"hnsw": {"space": "cosine"}})

    def _open(self) -> Any:
        import chromadb

        settings = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(str(self._folder), settings)

    def _add(self, embeddings: Matrix, people: list[int]) -> None:
        ids = [str(next(self._numbers)) for _ in people]
        self._collection.add(ids, embeddings=embeddings, metadatas=[{"person": person} for person in people])

    def search(self, probe: Matrix) -> tuple[int, float]:
        found = self._collection.query(probe[None, :], n_results=CANDIDATES, include=["metadatas", "distances"])
        return int(found["metadatas"][0][0]["person"]), 1.0 - float(found["distances"][0][0])

    def reopen(self) -> None:
        self._collection = self._open().get_collection("faces")


class SqliteVec(_Store):
    """Exact."""

    note = "vec0, float32, exact"
    most_faces = 100_000

    def _create(self) -> None:
        self._database = self._open()
        vector = f"embedding float[{self._dimension}] distance_metric=cosine"
        self._database.execute(
            f"CREATE VIRTUAL TABLE faces USING vec0(face INTEGER PRIMARY KEY, {vector}, +person INTEGER)"
        )

    def _open(self) -> Any:
        import pysqlite3  # The sqlite3 of many Python builds cannot load extensions.
        import sqlite_vec

        database = pysqlite3.connect(self._folder / "faces.db", check_same_thread=False)
        database.enable_load_extension(True)
        sqlite_vec.load(database)
        return database

    def _add(self, embeddings: Matrix, people: list[int]) -> None:
        rows = [(next(self._numbers), row.tobytes(), person) for row, person in zip(embeddings, people, strict=True)]
        with self._database:
            self._database.executemany("INSERT INTO faces (face, embedding, person) VALUES (?, ?, ?)", rows)

    def search(self, probe: Matrix) -> tuple[int, float]:
        query = "SELECT person, distance FROM faces WHERE embedding MATCH ? AND k = ? ORDER BY distance"
        person, distance = self._database.execute(query, (probe.tobytes(), CANDIDATES)).fetchone()
        return int(person), 1.0 - float(distance)

    def reopen(self) -> None:
        self._database.close()
        self._database = self._open()
