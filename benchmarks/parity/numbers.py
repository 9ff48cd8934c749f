"""Compares numbers: every output of every network, one image and eight at a time."""

from dataclasses import dataclass

import numpy as np
import onnxruntime

from benchmarks.parity.oracle_client import Arrays, Oracle
from benchmarks.parity.subject import Subject

LARGEST_DIFFERENCE = 1e-4
"""Of any number, relative to the largest number of its output."""

SMALLEST_COSINE = 0.99999


@dataclass(frozen=True)
class Agreement:
    """The worst values over all outputs of a network."""

    subject: Subject
    inputs: str
    difference: float
    cosine: float

    @property
    def holds(self) -> bool:
        """Both values are within their bounds."""
        return self.difference <= LARGEST_DIFFERENCE and self.cosine >= SMALLEST_COSINE


def compare(oracle: Oracle, subject: Subject, inputs: Arrays) -> list[Agreement]:
    """Return one row for each input."""
    expected = oracle.run("forward", subject, inputs)
    session = onnxruntime.InferenceSession(subject.model, providers=["CPUExecutionProvider"])
    agreements = []
    for name, pictures in inputs.items():
        found = session.run(None, {"data": pictures})
        pairs = [(expected[f"{name}/{number}"], output) for number, output in enumerate(found)]
        assert f"{name}/{len(found)}" not in expected, "MXNet has more outputs"
        difference = max(_difference(*pair) for pair in pairs)
        agreements.append(Agreement(subject, name, difference, min(_cosine(*pair) for pair in pairs)))
    return agreements


def _difference(expected: np.ndarray, found: np.ndarray) -> float:
    assert expected.shape == found.shape, (expected.shape, found.shape)
    return float(np.abs(expected - found).max() / np.abs(expected).max())


def _cosine(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the smallest cosine over the images of a batch."""
    one, other = (array.reshape(len(array), -1).astype(np.float64) for array in (expected, found))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float((np.sum(one * other, axis=1) / lengths).min())
