"""Draws boxes, labels and landmarks onto an image. A label never covers another face."""

import io
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from service.encoder.contract import Box, Image
from service.encoder.images.fonts import DrawableText, drawable

_GREEN = (0, 200, 60)
_AMBER = (255, 170, 0)
_RED = (230, 30, 30)
_BLACK = (0, 0, 0)
_MARGIN = 2
"""Pixels between the text and the edges of its label."""
_LONGEST_IN_HEIGHTS = 16
"""Longest label, in heights of the font, unless the face is wider."""
_ELLIPSIS = "…"

Format = Literal["JPEG", "PNG", "WEBP"]
FORMATS: dict[str, Format] = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""Endings of files, in small letters, and their formats."""


class _Span(NamedTuple):
    """A free place for a label: left and right end, and the top."""

    left: float
    right: float
    top: float

    @property
    def width(self) -> float:
        return self.right - self.left


def format_of(path: Path) -> Format | None:
    """The format that the ending of a file names, or None for another ending."""
    return FORMATS.get(path.suffix.lower())


def annotate(
    image: Image,
    boxes: Sequence[tuple[Box, str]],
    landmarks: Sequence[tuple[tuple[float, float], ...]] = (),
    unmatched: Container[int] = (),
    format: Format = "JPEG",
) -> bytes:
    """The image with a box and a label per face, and a red dot per landmark, as a file of that format.

    The drawing is that of `draw_faces`.
    """
    file = io.BytesIO()
    _drawn(image, boxes, landmarks, unmatched).save(file, format, quality=90)
    return file.getvalue()


def draw_faces(
    image: Image,
    boxes: Sequence[tuple[Box, str]],
    landmarks: Sequence[tuple[tuple[float, float], ...]] = (),
    unmatched: Container[int] = (),
) -> Image:
    """A copy of the image with a box and a label per face, and a red dot per landmark.

    Boxes are green, and amber for the indexes (from 0) in `unmatched`. A label is shortened until it covers no other
    face. Characters that no font of the machine has become a question mark, after the number of the face.
    """
    return np.asarray(_drawn(image, boxes, landmarks, unmatched))


def _drawn(
    image: Image,
    boxes: Sequence[tuple[Box, str]],
    landmarks: Sequence[tuple[tuple[float, float], ...]],
    unmatched: Container[int],
) -> Pillow.Image:
    picture = Pillow.fromarray(image)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 400))
    for place, (box, _) in enumerate(boxes):
        color = _AMBER if place in unmatched else _GREEN
        draw.rectangle((box.left, box.top, max(box.left, box.right), max(box.top, box.bottom)), None, color, line)
    taken = [box for box, _ in boxes]
    for place, (box, label) in enumerate(boxes):
        text = _text(label, place, max(14, round(max(picture.size) / 50)))
        others = [other for index, other in enumerate(taken) if index != place]
        if text is not None:
            taken.append(_label(draw, text, box, others, _AMBER if place in unmatched else _GREEN))
    for x, y in (point for points in landmarks for point in points):
        draw.ellipse((x - line, y - line, x + line, y + line), fill=_RED)
    return picture


def has_missing_characters(labels: Sequence[str]) -> bool:
    """Whether a label has characters that no font of the machine has."""
    return not all(drawable(label, 16).is_complete for label in labels)


def _text(label: str, place: int, size: int) -> DrawableText | None:
    """The label on one line, None if it is empty. The number tells faces apart whose names cannot be drawn."""
    text = " ".join(label.split())
    if not text:
        return None
    found = drawable(text, size)
    return found if found.is_complete else found._replace(text=f"#{place + 1} {found.text}")


def _label(
    draw: ImageDraw.ImageDraw, label: DrawableText, box: Box, others: Sequence[Box], color: tuple[int, int, int]
) -> Box:
    """Draw black text on the color of the box. Returns the rectangle of the label."""
    ascent, descent = label.font.getmetrics()
    height = ascent + descent + 2 * _MARGIN
    span = _free_span(draw.im.size, box, others, height)
    longest = min(span.width, max(box.width, _LONGEST_IN_HEIGHTS * height)) - 2 * _MARGIN
    text = _shortened(label, longest)
    width = label.font.getlength(text) + 2 * _MARGIN
    left = max(span.left, min(box.left, span.right - width))
    drawn = Box(left, span.top, left + width, span.top + height)
    draw.rectangle((drawn.left, drawn.top, drawn.right, drawn.bottom), fill=color)
    draw.text((left + _MARGIN, span.top + _MARGIN), text, fill=_BLACK, font=label.font)
    return drawn


def _free_span(size: tuple[int, int], box: Box, others: Sequence[Box], height: float) -> _Span:
    """The place above the box, else below it, else inside it: the first that is as wide as half the box or more."""
    picture_width, picture_height = size
    for top in (box.top - height, box.bottom):
        if 0 <= top <= picture_height - height:
            span = _between(box, others, top, height, picture_width)
            if span.width >= box.width / 2:
                return span
    inside = max(0.0, min(box.top, picture_height - height))
    return _Span(max(0.0, box.left), min(float(picture_width), max(box.right, box.left + height)), inside)


def _between(box: Box, others: Sequence[Box], top: float, height: float, picture_width: float) -> _Span:
    """The free part of a row, from the nearest rectangle on the left of the box's middle to that on the right."""
    middle = (box.left + box.right) / 2
    near = [other for other in others if other.top < top + height and other.bottom > top]
    left = max((other.right for other in near if (other.left + other.right) / 2 <= middle), default=0.0)
    right = min((other.left for other in near if (other.left + other.right) / 2 > middle), default=picture_width)
    return _Span(max(0.0, left), min(picture_width, right), top)


def _shortened(label: DrawableText, longest: float) -> str:
    """The text, its middle left out until it fits. The last word stays, because it is the similarity."""
    text, font = label.text, label.font
    if font.getlength(text) <= longest:
        return text
    start, _, end = text.rpartition(" ")
    for tail in (f"{_ELLIPSIS} {end}" if start and end else _ELLIPSIS, _ELLIPSIS):
        head = start if start and tail != _ELLIPSIS else text
        for length in range(len(head), 0, -1):
            if font.getlength(head[:length] + tail) <= longest:
                return head[:length] + tail
    return text[:1]
