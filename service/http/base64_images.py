"""Images as base64 in JSON: `{"image": "..."}`, where the text may also be a data URI."""

import binascii
import re

from service.errors import ImageTooLarge, InvalidRequest

_DATA_URI = re.compile(r"data:[^,]{0,200}?;base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:https?|ftp|file)://", re.IGNORECASE)
_WHITESPACE = str.maketrans("", "", " \t\r\n")
_FROM_URL_ALPHABET = str.maketrans("-_", "+/")
NO_ADDRESSES = "the server loads no image from an address, because it contacts nobody; send the image itself"


def decode_base64_image(text: str, limit_bytes: int) -> bytes:
    """The bytes of an image. Line breaks, a missing padding and the alphabet of URLs are allowed.

    Raises ImageTooLarge over `limit_bytes`, InvalidRequest if the text is not base64.
    """
    if _ADDRESS.match(text):
        raise InvalidRequest(f"image: {NO_ADDRESSES}")
    data_uri = _DATA_URI.match(text)
    if data_uri is None and text.startswith("data:"):
        raise InvalidRequest("image: a data URI must begin like data:image/jpeg;base64,")
    digits = text[data_uri.end() if data_uri else 0 :].translate(_WHITESPACE).rstrip("=")
    if not digits:
        raise InvalidRequest("image: the text is empty")
    if len(digits) * 3 // 4 > limit_bytes:
        raise ImageTooLarge(f"image 1 is larger than {limit_bytes} bytes", image="image 1", limit_bytes=limit_bytes)
    try:
        padded = digits.translate(_FROM_URL_ALPHABET).encode("ascii") + b"=" * (-len(digits) % 4)
        return binascii.a2b_base64(padded, strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        raise InvalidRequest("image: the text is not base64") from None
