"""A crowd, its probes and the exact answers in files: every engine reads them in a process of its own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.search.crowds import Crowd, Kind, Matrix, Probes, exact_best, make_crowd, make_probes


@dataclass(frozen=True)
class Workload:
    """The enrolled references, the probes, and the right answers."""

    folder: Path
    crowd: Crowd
    probes: Probes
    people: npt.NDArray[np.int32]
    """The person that an exact search returns first, for each probe."""
    similarities: Matrix

    @property
    def dimension(self) -> int:
        """The dimension of the embeddings."""
        return int(self.crowd.embeddings.shape[1])


@dataclass(frozen=True)
class Case:
    """The parameters of a crowd, and the number of probes at each cosine."""

    kind: Kind
    faces: int
    references: int
    dimension: int
    probes_a_cosine: int


def prepare(folder: Path, case: Case) -> None:
    """Make a workload and save it in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    crowd = make_crowd(case.kind, case.faces // case.references, case.references, case.dimension)
    asked = make_probes(crowd, case.probes_a_cosine)
    people, similarities = exact_best(crowd, asked)
    np.save(folder / "embeddings.npy", crowd.embeddings)
    np.savez(
        folder / "rest.npz",
        kind=case.kind,
        crowd=crowd.people,
        probes=asked.embeddings,
        mates=asked.mates,
        cosines=asked.cosines,
        people=people,
        similarities=similarities,
    )


def open_workload(folder: Path) -> Workload:
    """Open the workload in a folder; the references are memory-mapped."""
    embeddings = np.load(folder / "embeddings.npy", mmap_mode="r")
    rest = np.load(folder / "rest.npz")
    return Workload(
        folder,
        Crowd(str(rest["kind"]), embeddings, rest["crowd"]),  # type: ignore[arg-type]
        Probes(rest["probes"], rest["mates"], rest["cosines"]),
        rest["people"],
        rest["similarities"],
    )
