"""Quality heuristic from 0 to 1: how well a face can be compared. It is not ISO/IEC 29794-5.

Five parts are measured, each 1 if the face is good enough and falling to 0 if it is useless. Their geometric mean is
`quality.heuristic`. Two more, `contrast` and `detail`, are for the gates only.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from service.encoder.contract import Box, Image, QualityParts

_SIDE_PIXELS = 96
"""Faces are resized to this side first, so that sharpness means the same for small and large faces."""


def measure_quality(image: Image, box: Box, landmarks: Sequence[tuple[float, float]], detection: float) -> QualityParts:
    """The parts for one face. `detection` is the detector's confidence, scaled to 0..1."""
    gray = _gray_crop(image, box)
    return QualityParts(
        size=size_part(box),
        sharpness=_sharpness(gray),
        brightness=_brightness(gray),
        pose=_pose(np.asarray(landmarks, dtype=np.float64)),
        detection=min(1.0, max(0.0, detection)),
        contrast=_ramp(float(gray.std()), 0, 32),
        detail=_detail(gray),
    )


def size_part(box: Box) -> float:
    """0 at 16 pixels of the shorter side, 1 at 112 pixels, the input of recognition networks."""
    return _ramp(min(box.right - box.left, box.bottom - box.top), 16, 112)


def _ramp(value: float, nothing: float, full: float) -> float:
    return float(min(1.0, max(0.0, (value - nothing) / (full - nothing))))


def _gray_crop(image: Image, box: Box) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    left, top = max(0, int(box.left)), max(0, int(box.top))
    right, bottom = min(width, round(box.right)), min(height, round(box.bottom))
    if right - left < 2 or bottom - top < 2:
        return np.zeros((_SIDE_PIXELS, _SIDE_PIXELS), dtype=np.uint8)
    small = cv2.resize(image[top:bottom, left:right], (_SIDE_PIXELS, _SIDE_PIXELS), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))


def _sharpness(gray: npt.NDArray[np.uint8]) -> float:
    """Variance of the Laplacian divided by the variance of the pixels, so that contrast does not matter."""
    contrast = float(gray.astype(np.float64).var())
    if contrast < 1.0:
        return 0.0
    edges = float(cv2.Laplacian(gray, cv2.CV_64F).var())
    return _ramp(edges / contrast, 0.015, 0.09)


def _detail(gray: npt.NDArray[np.uint8]) -> float:
    """How much of the edges a further blur removes: nearly all of a sharp face, and little of a blurred one.

    The face is compared with itself, so beards, glasses and backgrounds matter less than in `_sharpness`. The variance
    of the second derivative after a blur of 4 pixels is divided by that after 1.5 pixels, which removes noise. The
    direction with less detail counts, because motion blurs one direction only.
    """
    fine, coarse = (_edges(gray, sigma) for sigma in (1.5, 4.0))
    return 1 - _ramp(max(after / max(before, 1e-9) for before, after in zip(fine, coarse, strict=True)), 0.0, 0.6)


def _edges(gray: npt.NDArray[np.uint8], sigma: float) -> tuple[float, float]:
    """Variance of the second derivative across and down, after a blur. The border, which has no neighbors, is left
    out.
    """
    blurred = cv2.GaussianBlur(gray.astype(np.float64), (0, 0), sigma)
    across, down = (cv2.Sobel(blurred, cv2.CV_64F, *order, ksize=3)[8:-8, 8:-8] for order in ((2, 0), (0, 2)))
    return float(across.var()), float(down.var())


def _brightness(gray: npt.NDArray[np.uint8]) -> float:
    mean = float(gray.mean())
    return min(_ramp(mean, 10, 70), _ramp(255 - mean, 10, 50))


def _pose(landmarks: npt.NDArray[np.float64]) -> float:
    """1 for a frontal face: the nose is half way between the eyes, and half way between eyes and mouth."""
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
    across = right_eye - left_eye
    length = float(np.hypot(*across))
    if length < 1.0:
        return 0.0
    along = float(np.dot(nose - left_eye, across)) / length**2
    down = np.array([-across[1], across[0]]) / length
    mouth = float(np.dot((left_mouth + right_mouth) / 2 - left_eye, down))
    height = float(np.dot(nose - left_eye, down)) / mouth if mouth > 1.0 else 0.0
    return min(1 - _ramp(abs(along - 0.5), 0.15, 0.75), 1 - _ramp(abs(height - 0.5), 0.2, 0.75))
