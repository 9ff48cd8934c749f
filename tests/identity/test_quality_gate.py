"""The gates on real photographs: good photographs pass, spoiled photographs are rejected by the name of the fault."""

import cv2
import numpy as np
import pytest

from service.encoder.contract import Box, DetectedFace, Encoder, Image, QualityParts
from service.encoder.images.decode import decode_image
from service.identity.review import Gate, shortcomings
from tests.support.encoders import LIMITS, people_photographs, photograph, portrait


def spoiled(change: str) -> Image:
    image = portrait()
    if change == "blurred":
        return np.asarray(cv2.blur(image, (25, 25)))
    if change == "dark":
        return (image * 0.12).astype(np.uint8)
    if change == "bright":
        return (255 - (255 - image.astype(np.int16)) * 0.06).astype(np.uint8)
    return np.asarray(cv2.resize(image, None, fx=0.1, fy=0.1, interpolation=cv2.INTER_AREA))


def reasons(face: DetectedFace, gate: Gate) -> list[str]:
    return [shortcoming.kind.slug for shortcoming in shortcomings(face, gate)]


def test_every_photograph_of_the_people_passes_the_standard_gate(real_encoder: Encoder) -> None:
    for paths in people_photographs().values():
        for path in paths:
            (face, *_) = real_encoder.detect(decode_image(path.read_bytes(), LIMITS))
            assert reasons(face, "standard") == [], path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("blurred", "face-blurred"),
        ("dark", "face-badly-lit"),
        ("bright", "face-badly-lit"),
        ("small", "face-too-small"),
    ],
)
def test_a_spoiled_photograph_is_refused_by_the_name_of_its_fault(
    real_encoder: Encoder, change: str, reason: str
) -> None:
    (face, *_) = real_encoder.detect(spoiled(change))
    assert reason in reasons(face, "standard")
    assert reason in reasons(face, "strict")
    assert reasons(face, "off") == []
    (shortcoming,) = [each for each in shortcomings(face, "standard") if each.kind.slug == reason]
    assert shortcoming.measured < shortcoming.minimum
    assert reason in shortcoming.detail


def test_a_small_portrait_passes_only_the_standard_gate(insightface_encoder: Encoder) -> None:
    (face, *_) = insightface_encoder.detect(photograph("people", "barack_obama", "5_small.jpg"))
    assert reasons(face, "standard") == []
    assert reasons(face, "strict") == ["face-too-small"]


def test_the_worst_fault_is_listed_first() -> None:
    parts = QualityParts(size=0.1, sharpness=1.0, brightness=0.0, pose=0.29, detection=0.9)
    face = DetectedFace(Box(0, 0, 400, 300), 0.9, (), parts.score, parts)
    assert reasons(face, "standard") == ["face-badly-lit", "face-too-small", "face-turned-away"]


def test_a_face_without_measures_passes() -> None:
    assert shortcomings(DetectedFace(Box(0, 0, 1, 1), 0.1, (), 0.0), "strict") == ()
