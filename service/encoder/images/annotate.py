"""Draws boxes, labels and landmarks onto an image. Labels can have any script that the font has."""

import io
from collections.abc import Container, Sequence

from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from service.encoder.contract import Box, Image

_GREEN = (0, 200, 60)
_AMBER = (255, 170, 0)
_RED = (230, 30, 30)
_BLACK = (0, 0, 0)
_FONTS = ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "arial.ttf")


def annotate(
    image: Image,
    boxes: Sequence[tuple[Box, str]],
    landmarks: Sequence[tuple[tuple[float, float], ...]] = (),
    unmatched: Container[int] = (),
) -> bytes:
    """The image as a JPEG with a box and a label per face, and a red dot per landmark.

    Boxes are green, and amber for the indexes (from 0) in `unmatched`.
    """
    picture = Pillow.fromarray(image)
    draw = ImageDraw.Draw(picture)
    line = max(2, round(max(picture.size) / 400))
    font = _font(max(14, round(max(picture.size) / 50)))
    for place, (box, label) in enumerate(boxes):
        color = _AMBER if place in unmatched else _GREEN
        draw.rectangle((box.left, box.top, max(box.left, box.right), max(box.top, box.bottom)), None, color, line)
        _label(draw, font, box, label, color)
    for x, y in (point for points in landmarks for point in points):
        draw.ellipse((x - line, y - line, x + line, y + line), fill=_RED)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def _label(
    draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, box: Box, label: str, color: tuple[int, int, int]
) -> None:
    """Black text on the color of the box, above the box if it fits, else inside. Line breaks in a name become
    spaces.
    """
    text = " ".join(label.split())
    if not text:
        return
    _, _, width, height = draw.textbbox((0, 0), text, font=font)
    left = max(0.0, min(box.left, draw.im.size[0] - width - 4))
    top = box.top - height - 4 if box.top >= height + 4 else box.top
    draw.rectangle((left, top, left + width + 4, top + height + 4), fill=color)
    draw.text((left + 2, top + 2), text, fill=_BLACK, font=font)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """The first installed font with many scripts, else Pillow's own (Latin, Greek, Cyrillic)."""
    for name in _FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)  # noqa: S101 - Pillow without FreeType is not released
    return found
