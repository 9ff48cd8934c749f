"""Decodes RetinaFace's maps to faces without the service's code: one anchor after another in plain loops.

It follows the anchors' definition in insightface 0.1.5 (a square of 16 pixels, scaled about its center), so that a
mistake in the service's decoder shows. It needs only NumPy.
"""

import math
from typing import Any

import numpy as np

Sides = tuple[float, float, float, float]

SCALES = {32: (32, 16), 16: (8, 4), 8: (2, 1)}


def anchor(scale: int, row: int, column: int, stride: int) -> Sides:
    """Return left, top, right and bottom of the square (0, 0, 15, 15), scaled about its center and moved to a cell."""
    side = 16 * scale
    left, right = 7.5 - 0.5 * (side - 1), 7.5 + 0.5 * (side - 1)
    return left + column * stride, left + row * stride, right + column * stride, right + row * stride


def decode(maps: Any, landmark_scale: float, threshold: float = 0.5, overlap: float = 0.4) -> tuple[Any, Any, Any]:
    """Return boxes (n, 4), scores (n,) and landmarks (n, 5, 2) of one image from the nine maps in MXNet's order."""
    faces = []
    for place, stride in enumerate((32, 16, 8)):
        scores, deltas, points = (maps[3 * place + part][0] for part in range(3))
        for kind, scale in enumerate(SCALES[stride]):
            for row, column in np.argwhere(scores[2 + kind] >= threshold):
                box = anchor(scale, row, column, stride)
                delta = deltas[4 * kind : 4 * kind + 4, row, column]
                numbers = points[10 * kind : 10 * kind + 10, row, column]
                faces.append(
                    (float(scores[2 + kind, row, column]), moved(box, delta), placed(box, numbers, landmark_scale))
                )
    faces.sort(key=lambda face: -face[0])
    kept: list[Any] = []
    for face in faces:
        if all(shared(face[1], other[1]) <= overlap for other in kept):
            kept.append(face)
    return (
        np.array([face[1] for face in kept]).reshape(-1, 4),
        np.array([face[0] for face in kept]),
        np.array([face[2] for face in kept]).reshape(-1, 5, 2),
    )


def moved(box: Sides, delta: Any) -> Sides:
    left, top, right, bottom = box
    width, height = right - left + 1, bottom - top + 1
    x = left + 0.5 * (width - 1) + float(delta[0]) * width
    y = top + 0.5 * (height - 1) + float(delta[1]) * height
    width, height = width * math.exp(delta[2]), height * math.exp(delta[3])
    return x - 0.5 * (width - 1), y - 0.5 * (height - 1), x + 0.5 * (width - 1), y + 0.5 * (height - 1)


def placed(box: Sides, numbers: Any, landmark_scale: float) -> Any:
    left, top, right, bottom = box
    width, height = right - left + 1, bottom - top + 1
    middle = left + 0.5 * (width - 1), top + 0.5 * (height - 1)
    pairs = np.asarray(numbers, dtype=np.float64).reshape(5, 2) * landmark_scale
    return [(middle[0] + x * width, middle[1] + y * height) for x, y in pairs]


def shared(one: Any, other: Any) -> float:
    """Return the intersection over union with insightface's pixels: both borders belong to the box."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    return float(width * height) / (area(one) + area(other) - width * height)


def area(box: Any) -> float:
    return float((box[2] - box[0] + 1) * (box[3] - box[1] + 1))
