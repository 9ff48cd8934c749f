"""Padded crops equal those of the legacy recognizer, which the test computes a second time without OpenCV."""

import math

import numpy as np
import pytest

from service.encoder.contract import Box, Image
from service.encoder.networks.detections import Detections
from service.encoder.networks.padded_crop import croppable, padded_crop, quarter_picture

RANDOM = np.random.default_rng(6)


def blobs(height: int, width: int) -> Image:
    """Soft blobs with some noise, so that neighboring pixels differ a little and distant pixels much."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (7 + part) + part) * np.cos(columns / (11 - part)) for part in range(3)]
    noise = RANDOM.integers(0, 20, (height, width, 3))
    return (np.stack(waves, axis=-1) * 100 + 128 + noise).clip(0, 255).astype(np.uint8)


def area_weights(before: int, after: int) -> np.ndarray:
    """Return the matrix (after, before) of area interpolation: the mean over the area that a new pixel covers, and for
    enlargement the blend of OpenCV's INTER_AREA.
    """
    scale = before / after
    weights = np.zeros((after, before))
    for place in range(after):
        if scale >= 1:
            start, end = place * scale, (place + 1) * scale
            for pixel in range(math.floor(start), min(before, math.ceil(end))):
                weights[place, pixel] = min(end, pixel + 1) - max(start, pixel)
        else:
            pixel = math.floor(place * scale)
            share = place + 1 - (pixel + 1) / scale
            share = 0.0 if share <= 0 else share - math.floor(share)
            weights[place, min(pixel, before - 1)] += 1 - share
            weights[place, min(pixel + 1, before - 1)] += share
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def resized_by_area(image: np.ndarray, height: int, width: int) -> np.ndarray:
    vertical, horizontal = area_weights(image.shape[0], height), area_weights(image.shape[1], width)
    return horizontal @ np.tensordot(vertical, image.astype(np.float64), axes=1)


def legacy_crop(image: Image, box: tuple[float, float, float, float]) -> np.ndarray:
    """The crop of the legacy program, step by step: cut, shrink, add equal margins, add one line if it is not 112."""
    left, top, right, bottom = (int(side) for side in box)
    face = image[top:bottom, left:right]
    height, width = face.shape[:2]
    if height >= width:
        face = resized_by_area(face, 112, int(width * (112 / height)))
    else:
        face = resized_by_area(face, int(height * (112 / width)), 112)
    axis = 1 if height >= width else 0
    margin = int((112 - face.shape[axis]) / 2)
    shape = list(face.shape)
    shape[axis] = margin
    face = np.concatenate([np.zeros(shape), face, np.zeros(shape)], axis=axis)
    if face.shape[axis] != 112:
        shape[axis] = 1
        face = np.concatenate([np.zeros(shape), face], axis=axis)
    return face


@pytest.mark.parametrize(
    "box",
    [
        (30.9, 20.2, 230.7, 290.1),  # higher than wide
        (10.0, 40.0, 290.0, 184.0),  # wider than high: 57.6 rows are 57
        (50.0, 50.0, 274.0, 274.0),  # a square twice as large: whole steps
        (100.5, 100.5, 157.4, 182.9),  # enlarged
        (0.0, 0.0, 61.0, 70.0),  # enlarged, an even padding
        (20.0, 10.0, 132.0, 122.0),  # unchanged
        (200.0, 150.0, 400.0, 390.0),  # beyond the right and lower border
        (10.0, 10.0, 17.0, 299.0),  # a sliver
    ],
)
def test_a_crop_has_the_pixels_of_the_legacy_recognizer(box: tuple[float, float, float, float]) -> None:
    image = blobs(300, 310)
    found = padded_crop(image, Box(*box))
    expected = legacy_crop(image, box)
    assert found.shape == expected.shape == (112, 112, 3)
    # Exactly rounded means if the face shrinks. If it grows, OpenCV's weights have 11 bits.
    grows = max(box[2] - box[0], box[3] - box[1]) < 112
    assert np.abs(found - expected).max() <= (1.0 if grows else 0.501)
    assert not found[expected == 0].any()


def test_the_padding_is_black_and_has_an_odd_pixel_at_the_start() -> None:
    image = np.full((200, 200, 3), 255, dtype=np.uint8)
    crop = padded_crop(image, Box(0, 0, 85, 112))
    assert np.flatnonzero(crop[0, :, 0]).tolist() == list(range(14, 99))
    crop = padded_crop(image, Box(0, 0, 112, 86))
    assert np.flatnonzero(crop[:, 0, 0]).tolist() == list(range(13, 99))


def found(*boxes: tuple[float, float, float, float]) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.ones(count, np.float32), np.zeros((count, 5, 2), np.float32)
    )


def test_only_faces_with_a_coordinate_below_zero_are_dropped() -> None:
    image = blobs(300, 300)
    boxes = [(-0.1, 5, 50, 50), (5, -3, 50, 50), (0, 0, 50, 50), (250, 250, 350, 350), (-9, -9, 20, 20)]
    assert croppable(image, found(*boxes)).boxes.tolist() == [list(boxes[2]), list(boxes[3])]
    assert len(croppable(image, found()).boxes) == 0


def test_faces_without_a_pixel_are_dropped() -> None:
    """The legacy recognizer stopped with an error on them."""
    image = blobs(300, 300)
    empty = [(10.2, 10, 10.9, 60), (310, 10, 350, 60), (10, 10, 11, 290)]
    assert len(croppable(image, found(*empty)).boxes) == 0
    barely = found((10, 10, 12, 200))
    kept = croppable(image, barely)
    assert len(kept.boxes) == 1
    assert padded_crop(image, Box(*kept.boxes[0].tolist())).any()


@pytest.mark.parametrize(("height", "width"), [(300, 400), (301, 403), (97, 41)])
def test_enrollment_shrinks_the_image_to_a_quarter_of_its_width(height: int, width: int) -> None:
    image = blobs(height, width)
    small = quarter_picture(image)
    assert small.shape == (int(height * (int(width / 4) / width)), int(width / 4), 3)
    expected = resized_by_area(image, *small.shape[:2])
    assert np.abs(small - expected).max() <= 0.51


def test_an_image_too_small_for_a_quarter_keeps_one_pixel() -> None:
    assert quarter_picture(blobs(2, 3)).shape == (1, 1, 3)
