"""Libraries that keep every embedding in this process: FAISS, hnswlib, usearch."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.crowds import Matrix
from benchmarks.search.peers.contract import CANDIDATES, Peer, folder_bytes
from benchmarks.search.workload import Workload

NEIGHBORS = 16
EF_CONSTRUCTION = 200
EF_SEARCH = 100


class _Library(Peer):
    """Maps the position of a face in the index to its person; the index is one file."""

    def build(self, workload: Workload, folder: Path) -> None:
        self._folder = folder
        self._people = list(map(int, workload.crowd.people))
        self._dimension = workload.dimension
        self._index = self._make(workload)
        self._add(np.ascontiguousarray(workload.crowd.embeddings))
        self._save(str(folder / "index"))

    def insert(self, embedding: Matrix, person: int) -> None:
        self._people.append(person)
        self._add(embedding[np.newaxis])

    def reopen(self) -> None:
        del self._index
        self._index = self._load(str(self._folder / "index"))

    def bytes_on_disk(self) -> dict[str, int]:
        return {"total": folder_bytes(self._folder)}

    def _make(self, workload: Workload) -> Any:
        raise NotImplementedError

    def _add(self, embeddings: Matrix) -> None:
        raise NotImplementedError

    def _save(self, path: str) -> None:
        raise NotImplementedError

    def _load(self, path: str) -> Any:
        raise NotImplementedError


class FaissFlat(_Library):
    """Exact, float32."""

    note = "IndexFlatIP, float32, exact"

    def _make(self, workload: Workload) -> Any:
        import faiss

        return faiss.IndexFlatIP(workload.dimension)

    def _add(self, embeddings: Matrix) -> None:
        self._index.add(embeddings)

    def _save(self, path: str) -> None:
        import faiss

        faiss.write_index(self._index, path)

    def _load(self, path: str) -> Any:
        import faiss

        return faiss.read_index(path)

    def search(self, probe: Matrix) -> tuple[int, float]:
        similarities, places = self._index.search(probe[np.newaxis], CANDIDATES)
        return self._people[places[0, 0]], float(similarities[0, 0])


class FaissHnsw(FaissFlat):
    """Approximate, in RAM."""

    most_faces = 100_000
    note = f"IndexHNSWFlat, M {NEIGHBORS}, efConstruction {EF_CONSTRUCTION}, efSearch {EF_SEARCH}"

    def _make(self, workload: Workload) -> Any:
        import faiss

        index = faiss.IndexHNSWFlat(workload.dimension, NEIGHBORS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        index.hnsw.efSearch = EF_SEARCH
        return index


class Hnswlib(_Library):
    """Approximate, in RAM."""

    most_faces = 100_000
    note = f"M {NEIGHBORS}, ef_construction {EF_CONSTRUCTION}, ef {EF_SEARCH}"

    def _make(self, workload: Workload) -> Any:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=workload.dimension)
        index.init_index(max_elements=workload.crowd.size + 1000, M=NEIGHBORS, ef_construction=EF_CONSTRUCTION)
        index.set_ef(EF_SEARCH)
        return index

    def _add(self, embeddings: Matrix) -> None:
        self._index.add_items(embeddings)

    def _save(self, path: str) -> None:
        self._index.save_index(path)

    def _load(self, path: str) -> Any:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=self._dimension)
        index.load_index(path)
        index.set_ef(EF_SEARCH)
        return index

    def search(self, probe: Matrix) -> tuple[int, float]:
        places, distances = self._index.knn_query(probe[np.newaxis], CANDIDATES)
        return self._people[places[0, 0]], 1.0 - float(distances[0, 0])


class Usearch(_Library):
    """Approximate, in RAM, half precision."""

    most_faces = 100_000
    note = f"f16, connectivity {NEIGHBORS}, expansion_add {EF_CONSTRUCTION}, expansion_search {EF_SEARCH}"

    def _make(self, workload: Workload) -> Any:
        from usearch.index import Index

        return Index(
            ndim=workload.dimension,
            metric="ip",
            dtype="f16",
            connectivity=NEIGHBORS,
            expansion_add=EF_CONSTRUCTION,
            expansion_search=EF_SEARCH,
        )

    def _add(self, embeddings: Matrix) -> None:
        first = len(self._index)
        self._index.add(np.arange(first, first + len(embeddings)), embeddings)

    def _save(self, path: str) -> None:
        self._index.save(path)

    def _load(self, path: str) -> Any:
        from usearch.index import Index

        return Index.restore(path)

    def search(self, probe: Matrix) -> tuple[int, float]:
        found = self._index.search(probe, CANDIDATES)
        return self._people[int(found.keys[0])], 1.0 - float(found.distances[0])
