"""Compares faces: the service's detector against MXNet's maps, decoded by an independent script."""

from dataclasses import dataclass

import numpy as np

from benchmarks.parity.mxnet_side import decoding
from benchmarks.parity.oracle_client import Arrays, Oracle
from benchmarks.parity.pictures import open_detector
from benchmarks.parity.subject import Subject
from service.encoder.networks.detections import Detections

SMALLEST_OVERLAP = 0.99


@dataclass(frozen=True)
class BoxAgreement:
    """The worst values over all images. `faces` counts MXNet's faces, `missing` the faces that only one side has."""

    subject: Subject
    pictures: int
    faces: int
    missing: int
    overlap: float
    score_difference: float
    landmark_pixels: float

    @property
    def holds(self) -> bool:
        """Both sides have the same faces, in nearly the same places."""
        return not self.missing and self.faces > 0 and self.overlap >= SMALLEST_OVERLAP


def compare_boxes(oracle: Oracle, subject: Subject, pictures: Arrays) -> BoxAgreement:
    """Compare all images at their own sizes."""
    expected = oracle.run("detect", subject, pictures, landmark_scale=subject.landmark_scale)
    detector, rows, missing, faces = open_detector(subject.model), [], 0, 0
    for name, picture in pictures.items():
        theirs = Detections(*(expected[f"{name}/{part}"] for part in ("boxes", "scores", "landmarks")))
        ours = detector.detect(picture)
        faces += len(theirs.scores)
        missing += abs(len(theirs.scores) - len(ours.scores))
        rows += _pairs(theirs, ours)
    overlaps, scores, pixels = zip(*rows, strict=True) if rows else ((0.0,), (0.0,), (0.0,))
    return BoxAgreement(subject, len(pictures), faces, missing, min(overlaps), max(scores), max(pixels))


def _pairs(theirs: Detections, ours: Detections) -> list[tuple[float, float, float]]:
    """Return overlap, score difference and largest landmark distance of each face and its most overlapping face."""
    rows = []
    for box, score, landmarks in zip(theirs.boxes, theirs.scores, theirs.landmarks, strict=True):
        overlaps = [decoding.shared(box, other) for other in ours.boxes]
        if overlaps:
            nearest = int(np.argmax(overlaps))
            farthest = float(np.abs(landmarks - ours.landmarks[nearest]).max())
            rows.append((overlaps[nearest], abs(float(score - ours.scores[nearest])), farthest))
    return rows
