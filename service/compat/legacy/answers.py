"""Answers of the legacy recognizer: boxes as `[x1, y1, x2, y2, score]`, and the annotated image."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from service.encoder.contract import DetectedFace
from service.encoder.encoders import Encoders
from service.encoder.images.annotate import annotate

NOBODY = "Uknown"
"""Spelled as the legacy recognizer spelled it, because callers compare with it."""


def faces_answer(faces: Sequence[tuple[DetectedFace, str | int]]) -> dict[str, Any]:
    """Faces with their labels."""
    return {"faces": [{"label": label, "bbox": _bounding_box(face)} for face, label in faces]}


async def drawn_picture(encoders: Encoders, data: bytes, faces: Sequence[tuple[DetectedFace, str | int]]) -> str:
    """The image as a JPEG in base64, with a green box, red landmarks and the label for each face."""
    boxes = [(face.box, str(label)) for face, label in faces]
    landmarks = [face.landmarks for face, _ in faces]
    picture = await encoders.decode(data)
    return base64.b64encode(await asyncio.to_thread(annotate, picture, boxes, landmarks)).decode()


def _bounding_box(face: DetectedFace) -> list[float]:
    box = face.box
    return [float(number) for number in (box.left, box.top, box.right, box.bottom, face.detection_score)]
