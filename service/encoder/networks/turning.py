"""Turns faces that lie on their side or upside down: their landmarks are found again in an upright cut-out.

A detector finds some of such faces, but lays the landmarks as if they were upright. The crops are then wrong, and
crops that are wrong in the same way match each other. Only doubtful faces are searched again: those with a low score,
and those whose landmarks are rolled. An ordinary photograph costs nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from service.encoder.contract import Image
from service.encoder.networks.detections import Detections, Floats, merged

CERTAIN_SCORE = 0.7
"""Upright faces of the test photographs have 0.78 and more, also if they are masked or half in the dark; faces upside
down have up to 0.65.
"""
_LARGEST_ROLL = 35.0
"""Degrees. Detectors place landmarks well up to 30 degrees; from 45 on a quarter of the test photographs is missed."""
_FINE_ROLL = 15.0
_SMALLEST_SIDE_PIXELS = 16.0
"""Smaller faces are useless in any orientation, and a crowd may have hundreds of them."""
_CHECKED_NEAR_MISSES = 2
_SQUARE_SIDE = 128
_CONTEXT = 2.2
"""Side of the cut-out square in relation to the longer side of the box."""
_LEAD = 0.08
"""A turned face must have a score that is higher by this."""

Detect = Callable[[Image], Detections]
"""Finds the faces in a square of 128 pixels."""


class _Look(NamedTuple):
    """A face found in a turned square: score, box (4,) and landmarks (5, 2) in pixels of the square, and the turn."""

    score: float
    box: Floats
    landmarks: Floats
    degrees: float


def with_upright_landmarks(image: Image, found: Detections, detect: Detect) -> Detections:
    """The same faces. Doubtful ones have the box and the landmarks of the turn at which the detector is surest. A
    rolled face that is not found again at any turn is left out, because its landmarks cannot be right.
    """
    if not _doubtful(found).any():
        return found
    faces = [found.only(np.array([index])) for index in range(len(found.scores))]
    looked = [_turned(image, face, detect) if _doubtful(face)[0] else face for face in faces]
    boxes, scores, landmarks = (
        np.concatenate([getattr(face, name) for face in looked]) for name in ("boxes", "scores", "landmarks")
    )
    return Detections(boxes, scores, landmarks)


def near_misses(image: Image, missed: Detections, detect: Detect) -> Detections:
    """The certain faces among the best few detections whose score was too low, each at its best turn.

    Without it, a face upside down would be found only if it is alone in the image.
    """
    large = missed.only(np.flatnonzero(_sides(missed) >= _SMALLEST_SIDE_PIXELS)[:_CHECKED_NEAR_MISSES])
    parts = [_certain(image, box, detect) for box in large.boxes]
    return merged(parts) if parts else large


def _certain(image: Image, box: Floats, detect: Detect) -> Detections:
    square, to_image = _cut_out(image, box)
    best = max((_look(square, quarter, detect) for quarter in (0.0, 90.0, 180.0, 270.0)), key=lambda look: look.score)
    best = _finely_turned(square, best, detect)
    return _in_image(best, to_image).only(np.array([best.score >= CERTAIN_SCORE]))


def turned_faces(image: Image, detect: Detect) -> Detections:
    """The certain faces of an image that lies on its side or upside down. `detect` gets the whole image."""
    height, width = image.shape[:2]
    found = [
        _turned_back(detect(np.ascontiguousarray(np.rot90(image, quarters))), quarters, width, height)
        for quarters in (1, 2, 3)
    ]
    faces = merged(found)
    return faces.only(faces.scores >= CERTAIN_SCORE)


def _turned_back(found: Detections, quarters: int, width: int, height: int) -> Detections:
    """Faces of the image after `quarters` turns of 90 degrees (numpy.rot90), in pixels of the image."""
    corners = found.boxes.reshape(-1, 2, 2)
    for turn in range(quarters, 0, -1):  # undo the last turn first
        right = width if turn % 2 else height
        corners, landmarks = (np.stack([right - p[..., 1], p[..., 0]], axis=-1) for p in (corners, found.landmarks))
        found = Detections(found.boxes, found.scores, landmarks)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return Detections(boxes, found.scores, found.landmarks)


def roll_degrees(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The turn of each face in the image, from the middle of the eyes to the middle of the mouth. Shape (n, 5, 2) gives
    (n,), in degrees clockwise from -180 to 180; 0 is upright.
    """
    down = landmarks[:, 3:5].mean(axis=1) - landmarks[:, 0:2].mean(axis=1)
    return np.asarray(np.degrees(np.arctan2(-down[:, 0], down[:, 1])))


def _doubtful(found: Detections) -> npt.NDArray[np.bool_]:
    large = _sides(found) >= _SMALLEST_SIDE_PIXELS
    rolled = np.abs(roll_degrees(found.landmarks)) > _LARGEST_ROLL
    return np.asarray(large & (rolled | (found.scores < CERTAIN_SCORE)))


def _sides(found: Detections) -> Floats:
    """The longer side of each box, in pixels. Shape (n,)."""
    return np.asarray(np.max(found.boxes[:, 2:] - found.boxes[:, :2], axis=1))


def _turned(image: Image, face: Detections, detect: Detect) -> Detections:
    """The face at its best turn, as it was found if that is the best, or nothing if its landmarks cannot be right."""
    square, to_image = _cut_out(image, face.boxes[0])
    first, *others = (_look(square, quarter, detect) for quarter in (0.0, 90.0, 180.0, 270.0))
    best = max(others, key=lambda look: look.score)
    is_rolled = abs(roll_degrees(face.landmarks)[0]) > _LARGEST_ROLL
    least = max(first.score, 0.0 if is_rolled else float(face.scores[0]) + _LEAD)
    if best.score <= least and not is_rolled:
        return face
    best = _finely_turned(square, max(first, best, key=lambda look: look.score), detect)
    return _in_image(best, to_image).only(np.array([best.score > 0]))


def _finely_turned(square: Image, look: _Look, detect: Detect) -> _Look:
    """The look at the turn that its own landmarks ask for, twice if needed, while the detector is surer there."""
    for _ in range(2):
        residual = float(roll_degrees(look.landmarks[None])[0])
        if look.score == 0 or abs(residual) <= _FINE_ROLL:
            break
        look = max(look, _look(square, look.degrees + residual, detect), key=lambda look: look.score)
    return look


def _cut_out(image: Image, box: Floats) -> tuple[Image, npt.NDArray[np.float64]]:
    """A square around the box, black outside of the image, and the matrix (2, 3) from its pixels to the image."""
    half = max(1, round(float(np.max(box[2:] - box[:2])) * _CONTEXT / 2))
    left, top = round(float(box[0] + box[2]) / 2) - half, round(float(box[1] + box[3]) / 2) - half
    rows, columns = slice(max(0, top), max(0, top + 2 * half)), slice(max(0, left), max(0, left + 2 * half))
    part = image[rows, columns]
    square = np.zeros((2 * half, 2 * half, 3), dtype=np.uint8)
    square[max(0, -top) :, max(0, -left) :][: part.shape[0], : part.shape[1]] = part
    method = cv2.INTER_AREA if 2 * half > _SQUARE_SIDE else cv2.INTER_LINEAR
    scale = 2 * half / _SQUARE_SIDE
    matrix = np.array([[scale, 0, left], [0, scale, top]], dtype=np.float64)
    return np.asarray(cv2.resize(square, (_SQUARE_SIDE, _SQUARE_SIDE), interpolation=method)), matrix


def _look(square: Image, degrees: float, detect: Detect) -> _Look:
    """The best face in the middle of the square, with the square turned so that a roll of `degrees` is upright."""
    turned = cv2.warpAffine(square, _rotation(degrees), (_SQUARE_SIDE, _SQUARE_SIDE))
    found = detect(np.asarray(turned))
    centers = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    away = np.abs(centers - _SQUARE_SIDE / 2).max(axis=1, initial=0)
    near = found.only(np.flatnonzero(away < _SQUARE_SIDE / 4))
    if not len(near.scores):
        return _Look(0.0, np.zeros(4, np.float32), np.zeros((5, 2), np.float32), degrees)
    best = int(near.scores.argmax())
    return _Look(float(near.scores[best]), near.boxes[best], near.landmarks[best], degrees)


def _rotation(degrees: float) -> npt.NDArray[np.float64]:
    middle = (_SQUARE_SIDE - 1) / 2
    return np.asarray(cv2.getRotationMatrix2D((middle, middle), degrees, 1.0))


def _in_image(look: _Look, to_image: npt.NDArray[np.float64]) -> Detections:
    """The face in pixels of the image. The box keeps its size, with width and height exchanged if the face lies on its
    side.
    """
    back = cv2.invertAffineTransform(_rotation(look.degrees))
    points = np.vstack([look.landmarks, (look.box[:2] + look.box[2:]) / 2]) @ back[:, :2].T + back[:, 2]
    points = points @ to_image[:, :2].T + to_image[:, 2]
    size = (look.box[2:] - look.box[:2]) * to_image[0, 0]
    lies = abs(np.sin(np.radians(look.degrees))) > np.sqrt(0.5)
    half = (size[::-1] if lies else size) / 2
    box = np.concatenate([points[5] - half, points[5] + half])
    return Detections(
        box[None].astype(np.float32), np.array([look.score], np.float32), points[None, :5].astype(np.float32)
    )
