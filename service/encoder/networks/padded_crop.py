"""The crops of the legacy recognizer, pixel for pixel: not aligned, resized onto a black square.

Embeddings of such crops have an embedding space of their own. Source: `scaller_conc` and its callers in
damsog/face-recognizer-service.
"""

import cv2
import numpy as np

from service.encoder.contract import Box, Image
from service.encoder.networks.detections import Detections

SIDE = 112
"""Side of the square, in pixels."""

_ENROLLMENT_DIVISOR = 4


def quarter_picture(image: Image) -> Image:
    """The image at a quarter of its width. The legacy recognizer enrolled from this, and recognized at full size."""
    height, width = image.shape[:2]
    narrow = max(1, int(width / _ENROLLMENT_DIVISOR))
    size = narrow, max(1, int(height * (narrow / width)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def croppable(image: Image, found: Detections) -> Detections:
    """The faces that the legacy recognizer kept: no negative coordinate, and at least one pixel in the crop."""
    whole = (found.boxes >= 0).all(axis=1)
    visible = [min(_scaled_size(*_face(image, Box(*sides)).shape[:2])) > 0 for sides in found.boxes.tolist()]
    return found.only(whole & np.array(visible, dtype=bool))


def padded_crop(image: Image, box: Box) -> Image:
    """The face on a black square, shape (112, 112, 3): its longer side fills the square, the shorter one is centered.

    An odd pixel of padding goes to the left or the top. `box` belongs to one of the `croppable` faces.
    """
    face = _face(image, box)
    height, width = _scaled_size(*face.shape[:2])
    top, left = _margin(height), _margin(width)
    square = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    square[top : top + height, left : left + width] = cv2.resize(face, (width, height), interpolation=cv2.INTER_AREA)
    return square


def _face(image: Image, box: Box) -> Image:
    """Pixels inside the box, with corners rounded down; outside of the image there are none."""
    return image[int(box.top) : max(0, int(box.bottom)), int(box.left) : max(0, int(box.right))]


def _scaled_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in the square. The order of operations is the legacy program's; it decides between 85 and 86."""
    if not height or not width:
        return 0, 0
    if width > height:
        return int(height * (SIDE / width)), SIDE
    return SIDE, int(width * (SIDE / height))


def _margin(pixels: int) -> int:
    """Left or top margin: half of the padding, and the odd pixel."""
    return (SIDE - pixels + 1) // 2
