"""Annotated images: labels of any script, and labels that cover no other face."""

import io

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFont

from service.encoder.contract import Box, Image
from service.encoder.images import fonts
from service.encoder.images.annotate import annotate, has_missing_characters
from service.encoder.images.fonts import drawable

GRAY = np.full((400, 800, 3), 128, dtype=np.uint8)
LONG = "Maximiliane-Wilhelmine " * 8


def drawn(boxes: list[tuple[Box, str]], image: Image = GRAY) -> Image:
    return np.asarray(Pillow.open(io.BytesIO(annotate(image, boxes, format="PNG"))))


@pytest.mark.parametrize(
    "others",
    [
        [Box(400, 150, 500, 250)],
        [Box(250, 100, 350, 200), Box(30, 90, 90, 150)],
        [Box(100, 40, 200, 140)],  # directly above
        [Box(190, 100, 290, 200), Box(10, 100, 110, 200)],  # close on both sides
    ],
)
def test_a_long_label_covers_no_other_face(others: list[Box]) -> None:
    box = Box(100, 150, 200, 250)
    labeled = drawn([(box, f"{LONG} 0.91"), *((other, "") for other in others)])
    bare = drawn([(box, ""), *((other, "") for other in others)])
    changed = (labeled != bare).any(axis=2)
    assert changed.any()
    for other in others:
        inside = [slice(int(other.top) + 4, int(other.bottom) - 4), slice(int(other.left) + 4, int(other.right) - 4)]
        overlap = changed[inside[0], inside[1]].copy()
        own = np.zeros_like(changed)
        own[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = True
        assert not (overlap & ~own[inside[0], inside[1]]).any()


def test_labels_of_neighbors_do_not_cover_each_other() -> None:
    left, right = Box(100, 150, 200, 250), Box(230, 150, 330, 250)
    both = drawn([(left, f"{LONG} 0.91"), (right, f"{LONG} 0.92")])
    alone = drawn([(left, ""), (right, f"{LONG} 0.92")])
    assert (both[100:149, 232:330] == alone[100:149, 232:330]).mean() > 0.5


def test_a_long_label_keeps_its_similarity_and_is_not_as_wide_as_the_image() -> None:
    wide = np.full((400, 3000, 3), 128, dtype=np.uint8)
    changed = (drawn([(Box(100, 150, 200, 250), f"{LONG} 0.91")], wide) != wide).any(axis=2)
    columns = np.flatnonzero(changed[:140].any(axis=0))
    assert 200 < columns.max() < 1500


@pytest.mark.parametrize("text", ["Ada 0.91", "Łoś", "Ελένη", "Дарья"])
def test_these_scripts_are_drawn_with_the_font_that_pillow_ships(text: str) -> None:
    assert drawable(text, 20) == (text, drawable(text, 20).font, True)


def test_characters_without_a_font_become_a_question_mark_after_the_number_of_the_face(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fonts, "_FONTS", ())
    fonts._installed.cache_clear()
    try:
        assert drawable("王小明 0.91", 20)[0::2] == ("? 0.91", False)
        assert has_missing_characters(["Ada", "王小明"])
        assert not has_missing_characters(["Ada", "no match"])
        named, numbered = (drawn([(Box(100, 150, 200, 250), text)]) for text in ("王小明 0.91", "#1 ? 0.91"))
        assert (named == numbered).all()
    finally:
        fonts._installed.cache_clear()


def test_an_installed_font_with_the_characters_is_chosen(tmp_path_factory: pytest.TempPathFactory) -> None:
    """DejaVu has Armenian letters, which Pillow's own font lacks."""
    try:
        ImageFont.truetype("DejaVuSans.ttf", 12)
    except OSError:
        pytest.skip("left out: DejaVu Sans is not installed")
    assert drawable("Արամ", 20).font.getname()[0] == "DejaVu Sans"
