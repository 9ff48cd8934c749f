"""Faces a second on both sides: the same network, the same pictures, the same threads, in turn in one run."""

import time
from dataclasses import dataclass
from statistics import median

import onnxruntime

from benchmarks.parity.oracle_client import Arrays, Oracle
from benchmarks.parity.subject import Subject

_TURNS = 3
_ROUNDS = 3  # of each turn, after one that is not counted


@dataclass(frozen=True)
class Work:
    """What one round runs: all inputs of a network, and how many faces are in them."""

    label: str
    inputs: Arrays
    faces: int


@dataclass(frozen=True)
class Speed:
    """Faces a second, each from the median of all rounds."""

    subject: Subject
    work: str
    mxnet: float
    onnxruntime: float

    @property
    def ratio(self) -> float:
        """How many times as fast the converted network is."""
        return self.onnxruntime / self.mxnet


def measure(oracle: Oracle, subject: Subject, work: Work, threads: int) -> Speed:
    """Both sides take turns at the same work."""
    request = oracle.network(subject, work.inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(subject.model, options, providers=["CPUExecutionProvider"])
    theirs: list[float] = []
    ours: list[float] = []
    for _ in range(_TURNS):
        theirs += oracle.ask("measure", **request, rounds=_ROUNDS)["seconds"]
        ours += _seconds(session, work.inputs)
    return Speed(subject, work.label, work.faces / median(theirs), work.faces / median(ours))


def _seconds(session: onnxruntime.InferenceSession, inputs: Arrays) -> list[float]:
    seconds = []
    for _ in range(_ROUNDS + 1):
        start = time.perf_counter()
        for pictures in inputs.values():
            session.run(None, {"data": pictures})
        seconds.append(time.perf_counter() - start)
    return seconds[1:]
