"""Small parts of the encoder: alignment, annotation, quality and processors."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from service.encoder.contract import Box
from service.encoder.images.annotate import annotate
from service.encoder.networks.alignment import aligned_crop, similarity_transform
from service.encoder.networks.quality import measure_quality
from service.encoder.runtime.processors import usable_processors
from tests.support.encoders import portrait

FACE = Box(137, 131, 322, 357)
LANDMARKS = ((186.0, 200.0), (272.0, 205.0), (226.0, 255.0), (184.0, 280.0), (268.0, 285.0))


def test_the_similarity_transform_undoes_a_rotation_scale_and_shift() -> None:
    random = np.random.default_rng(3)
    points = random.normal(size=(5, 2)) * 50
    angle, scale, shift = 0.7, 1.9, np.array([12.0, -5.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity_transform(points @ turn.T * scale + shift, points)
    moved = np.hstack([points @ turn.T * scale + shift, np.ones((5, 1))]) @ matrix.T
    assert np.allclose(moved, points)


@pytest.mark.parametrize("side", [112, 224, 128])
def test_a_rotated_image_gives_the_same_crop(side: int) -> None:
    image = cv2.blur(portrait(), (9, 9))
    points = np.array(LANDMARKS)
    upright = aligned_crop(image, points, side)
    turned = np.ascontiguousarray(np.rot90(image))
    moved = np.stack([points[:, 1], image.shape[1] - 1 - points[:, 0]], axis=1)
    assert upright.shape == (side, side, 3)
    assert np.abs(aligned_crop(turned, moved, side).astype(int) - upright).mean() < 1.0


def test_boxes_and_labels_are_drawn_in_green() -> None:
    image = np.full((200, 300, 3), 128, dtype=np.uint8)
    data = annotate(image, [(Box(100, 80, 200, 180), "Ada Łoś 李 🙂 0.91")], [((150.0, 120.0),)])
    drawn = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert drawn.shape == image.shape
    green = drawn[:, :, 1] - np.maximum(drawn[:, :, 0], drawn[:, :, 2]) > 60
    assert green[80:180, 99:102].mean() > 0.5
    assert drawn[120, 150, 0] - drawn[120, 150, 1:].max() > 60  # the landmark is red
    assert green[60:79, 100:140].mean() > 0.2
    assert not green[150:, 210:].any()


def test_the_box_of_a_face_without_a_match_is_drawn_in_amber() -> None:
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    boxes = [(Box(10, 50, 90, 150), "Ada"), (Box(200, 50, 290, 150), "no match")]
    drawn = np.asarray(Pillow.open(io.BytesIO(annotate(image, boxes, unmatched={1}))).convert("RGB")).astype(int)
    known, unknown = drawn[60:140, 9:13].max(axis=1), drawn[60:140, 199:203].max(axis=1)
    assert (known[:, 1] > 150).all()
    assert (known[:, 0] < 80).all()
    assert (unknown[:, :2] > 120).all()


def test_boxes_outside_the_image_can_be_drawn() -> None:
    image = np.zeros((50, 50, 3), dtype=np.uint8)
    assert annotate(image, [(Box(-20, -20, 90, 90), "A" * 500), (Box(10, 10, 10, 10), "")])


def test_quality_falls_with_blur_darkness_and_size() -> None:
    image = portrait()
    good = measure_quality(image, FACE, LANDMARKS, 0.9)
    assert good.score > 0.8
    assert measure_quality(cv2.blur(image, (25, 25)), FACE, LANDMARKS, 0.9).sharpness < good.sharpness / 2
    assert measure_quality((image * 0.15).astype(np.uint8), FACE, LANDMARKS, 0.9).brightness < 0.5
    assert measure_quality(image, Box(186, 200, 210, 224), LANDMARKS, 0.9).size < 0.2


def test_the_pose_of_a_face_that_looks_sideways_is_worse() -> None:
    image = portrait()
    profile = (*LANDMARKS[:2], (265.0, 255.0), *LANDMARKS[3:])
    assert measure_quality(image, FACE, LANDMARKS, 0.9).pose == 1.0
    assert measure_quality(image, FACE, profile, 0.9).pose < 0.6


@pytest.mark.parametrize("nose_height", [206.0, 282.0])
def test_the_pose_of_a_face_that_looks_up_or_down_is_worse(nose_height: float) -> None:
    """The nose is at the height of the eyes if a face looks up, and at that of the mouth if it looks down."""
    looking = (*LANDMARKS[:2], (228.0, nose_height), *LANDMARKS[3:])
    assert measure_quality(portrait(), FACE, looking, 0.9).pose < 0.6


def test_a_face_outside_the_image_has_no_quality() -> None:
    image = np.zeros((50, 50, 3), dtype=np.uint8)
    assert measure_quality(image, Box(60, 60, 90, 90), ((0.0, 0.0),) * 5, 0.5).score == 0.0


@pytest.mark.parametrize(("content", "processors"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", None)])
def test_a_container_quota_limits_the_processors(tmp_path: Path, content: str, processors: int | None) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(content)
    unlimited = usable_processors(tmp_path / "absent")
    assert usable_processors(quota) == min(unlimited, processors or unlimited)
