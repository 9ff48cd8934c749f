"""The legacy recognizer: every request brings dataset.json, and NumPy compares the probe with all of it."""

import json
from pathlib import Path

import numpy as np

from benchmarks.search.crowds import Matrix
from benchmarks.search.peers.contract import Peer
from benchmarks.search.workload import Workload

VOTE_ABOVE = 0.3


class LegacyRecognizer(Peer):
    """Parses the file, then returns the label with the most references above 0.3."""

    most_faces = 10_000
    note = "parse dataset.json and compare, each time"

    def build(self, workload: Workload, folder: Path) -> None:
        self._path = folder / "dataset.json"
        rows = zip(workload.crowd.people, workload.crowd.embeddings, strict=True)
        dataset = [[str(person), ",".join(map(repr, row.tolist()))] for person, row in rows]
        self._path.write_text(json.dumps(dataset))

    def search(self, probe: Matrix) -> tuple[int, float]:
        dataset = json.loads(self._path.read_text())
        labels = [label for label, _ in dataset]
        matrix = np.array([text.split(",") for _, text in dataset], dtype=np.float64)
        cosines = matrix @ probe / np.linalg.norm(matrix, axis=1) / np.linalg.norm(probe)
        votes: dict[str, int] = {}
        for label, cosine in zip(labels, cosines, strict=True):
            if cosine > VOTE_ABOVE:
                votes[label] = votes.get(label, 0) + 1
        winner = max(votes, key=lambda label: votes[label]) if votes else "-1"
        return int(winner), float(cosines.max())

    def insert(self, embedding: Matrix, person: int) -> None:
        dataset = json.loads(self._path.read_text())
        dataset.append([str(person), ",".join(map(repr, embedding.tolist()))])
        self._path.write_text(json.dumps(dataset))

    def reopen(self) -> None:
        """Nothing is kept in memory."""

    def bytes_on_disk(self) -> dict[str, int]:
        return {"total": self._path.stat().st_size}
