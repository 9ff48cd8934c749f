"""Faces a second on both sides: the same network, the same pictures, the same threads, in turn in one run."""

import time
from dataclasses import dataclass
from statistics import median

import onnxruntime

from benchmarks.parity.oracle_client import Arrays, Oracle
from benchmarks.parity.subjects import Subject

_TURNS = 3
_ROUNDS = 3  # of each turn


@dataclass(frozen=True)
class Speed:
    """Faces a second, each the median of all rounds."""

    subject: Subject
    inputs: str
    mxnet: float
    onnxruntime: float

    @property
    def ratio(self) -> float:
        """How many times as fast the converted network is."""
        return self.onnxruntime / self.mxnet


def measure(oracle: Oracle, subject: Subject, inputs: Arrays, label: str, faces: int, threads: int) -> Speed:
    """Both sides take turns over all inputs; `faces` is how many faces are in them."""
    request = oracle.network(subject, inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(subject.model, options, providers=["CPUExecutionProvider"])
    theirs: list[float] = []
    ours: list[float] = []
    for _ in range(_TURNS):
        theirs += oracle.ask("measure", **request, rounds=_ROUNDS)["seconds"]
        ours += _seconds(session, inputs)
    return Speed(subject, label, faces / median(theirs), faces / median(ours))


def _seconds(session: onnxruntime.InferenceSession, inputs: Arrays) -> list[float]:
    seconds = []
    for _ in range(_ROUNDS + 1):
        start = time.perf_counter()
        for pictures in inputs.values():
            session.run(None, {"data": pictures})
        seconds.append(time.perf_counter() - start)
    return seconds[1:]
