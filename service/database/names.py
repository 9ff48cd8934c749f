"""The canonical form of names. Names that look equal are equal: they are stored and compared in this form only.

Unicode has several spellings of one text: macOS writes the file name "José" as "e" and a combining accent (NFD), and
most keyboards write one letter (NFC). Compared by their bytes, these would be two people.
"""

import unicodedata


def canonical_name(name: str) -> str:
    """The name in Unicode's normal form NFC, without blanks at its ends."""
    return unicodedata.normalize("NFC", name).strip()


def may_be_stored(text: str) -> bool:
    """False for texts that PostgreSQL cannot receive: with a NUL character or a lone surrogate."""
    return "\0" not in text and text.encode(errors="ignore").decode() == text
