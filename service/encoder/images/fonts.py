"""Fonts for labels: the first installed font with every character, else a visible replacement.

No font with every script can be shipped (Noto Sans CJK alone has 18 MB), so the fonts of the system are tried by name.
Pillow looks for them in the folders of Linux, macOS and Windows.
"""

import functools
import unicodedata
from typing import NamedTuple

from PIL import ImageFont

_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    # Chinese, Japanese, Korean
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "ipag.ttf",
    "NanumGothic.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "msyh.ttc",
    "YuGothR.ttc",
    "malgun.ttf",
    # Arabic, Hebrew, Indic scripts, Thai and others
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansBengali-Regular.ttf",
    "NotoSansTamil-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "FreeSans.ttf",
    "Nirmala.ttf",
    "tahoma.ttf",
    "arial.ttf",
    "unifont.otf",
)
MISSING = "?"
_NO_CHARACTER = "\U0010ffff"
"""A code point that no font has. It is drawn as the font's sign for a missing character."""
_UNSEEN = ("Cf", "Cc", "Mn", "Me", "Zs", "Zl", "Zp")
"""Categories of characters without a picture of their own: blanks, joiners, combining marks."""


class DrawableText(NamedTuple):
    """A text and the font that has its characters. Missing ones were replaced, and `is_complete` is False."""

    text: str
    font: ImageFont.FreeTypeFont
    is_complete: bool


def drawable(text: str, size: int) -> DrawableText:
    """The text with the first font that has all its characters.

    If no font has them, each series of missing characters becomes one question mark, in the font that has most.
    """
    most: tuple[int, ImageFont.FreeTypeFont, set[str]] | None = None
    for font in _installed(size):
        lacking = {character for character in text if not _has(font, character)}
        if not lacking:
            return DrawableText(text, font, True)
        if most is None or len(lacking) < most[0]:
            most = (len(lacking), font, lacking)
    assert most is not None  # noqa: S101 - Pillow's own font is always there
    return DrawableText(_replaced(text, most[2]), most[1], False)


def _replaced(text: str, lacking: set[str]) -> str:
    kept = ""
    for character in text:
        if character not in lacking:
            kept += character
        elif not kept.endswith(MISSING):
            kept += MISSING
    return kept


@functools.lru_cache(maxsize=8)
def _installed(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    """The fonts of this machine, and at the end Pillow's own one (Latin, Greek, Cyrillic)."""
    found = [font for name in _FONTS if (font := _opened(name, size)) is not None]
    own = ImageFont.load_default(size)
    assert isinstance(own, ImageFont.FreeTypeFont)  # noqa: S101 - Pillow without FreeType is not released
    return (*found, own)


def _opened(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _has(font: ImageFont.FreeTypeFont, character: str) -> bool:
    """Whether the font draws the character otherwise than a missing one. Pillow shows no table of characters."""
    if unicodedata.category(character) in _UNSEEN:
        return True
    return _drawn(font, character) != _drawn(font, _NO_CHARACTER)


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
