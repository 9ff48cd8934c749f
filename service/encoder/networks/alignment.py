"""Alignment: from five landmarks to the upright crop on which ArcFace-style networks were trained."""

import cv2
import numpy as np
import numpy.typing as npt

from service.encoder.contract import Image

_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Positions of eyes, nose and mouth corners in a crop of 112 pixels (insightface's face_align.py)."""


def aligned_crop(image: Image, landmarks: npt.NDArray[np.floating], side: int) -> Image:
    """The face turned and scaled onto the template, shape (side, side, 3), black outside of the image.

    `landmarks` has shape (5, 2), in pixels.
    """
    matrix = similarity_transform(landmarks.astype(np.float64), _scaled_template(side))
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), borderValue=0.0))


def _scaled_template(side: int) -> npt.NDArray[np.float64]:
    scale, shift = (side / 112, 0.0) if side % 112 == 0 else (side / 128, 8.0 * side / 128)
    scaled: npt.NDArray[np.float64] = _TEMPLATE * scale + np.array([shift, 0.0])
    return scaled


def similarity_transform(source: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotation, uniform scale and shift, shape (2, 3), that map `source` onto `target` with least squares.

    Umeyama's problem in two dimensions without mirroring has a closed form: with complex numbers it is one division.
    """
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    moved = (source - source_mean) @ np.array([1, 1j])
    wanted = (target - target_mean) @ np.array([1, 1j])
    turn = np.vdot(moved, wanted) / max(float(np.vdot(moved, moved).real), 1e-12)
    rotation = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.hstack([rotation, (target_mean - rotation @ source_mean)[:, None]])
