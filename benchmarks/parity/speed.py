"""Measures faces a second of one thread on both sides: the same network and images, alternating in one run."""

import time
from dataclasses import dataclass
from statistics import median

import onnxruntime

from benchmarks.parity.oracle_client import Arrays, Oracle
from benchmarks.parity.subject import Subject

THREADS = 1
"""The service gives a run one thread and makes as many runs at a time as there are processors."""

_TURNS = 3
_ROUNDS = 3  # of each turn at least, after a warm-up run
_LEAST_SECONDS = 1.0  # of each turn


@dataclass(frozen=True)
class Work:
    """The work of one round: all inputs of a network, and the number of faces in them."""

    label: str
    inputs: Arrays
    faces: int


@dataclass(frozen=True)
class Speed:
    """Faces a second of both sides, each from the median of all rounds."""

    subject: Subject
    work: str
    mxnet: float
    onnxruntime: float
    fused: bool
    """Whether MXNet could fuse layers."""

    @property
    def ratio(self) -> float:
        """How many times as fast the converted network is."""
        return self.onnxruntime / self.mxnet


def measure(oracle: Oracle, subject: Subject, work: Work) -> Speed:
    """Measure both sides in turns on the same work."""
    request = oracle.network(subject, work.inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(subject.model, options, providers=["CPUExecutionProvider"])
    theirs: list[float] = []
    ours: list[float] = []
    fused = True
    for _ in range(_TURNS):
        answer = oracle.ask("measure", **request, rounds=_ROUNDS, least_seconds=_LEAST_SECONDS)
        theirs += answer["seconds"]
        fused = fused and answer["fused"]
        ours += _seconds(session, work.inputs)
    return Speed(subject, work.label, work.faces / median(theirs), work.faces / median(ours), fused)


def _seconds(session: onnxruntime.InferenceSession, inputs: Arrays) -> list[float]:
    seconds: list[float] = []
    while len(seconds) <= _ROUNDS or sum(seconds) < _LEAST_SECONDS:
        start = time.perf_counter()
        for pictures in inputs.values():
            session.run(None, {"data": pictures})
        seconds.append(time.perf_counter() - start)
    return seconds[1:]
