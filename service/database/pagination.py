"""Pages of lists. An opaque cursor holds the key of the last item of a page and a digest of the list.

Most keys are public ids, and the cursor does not hide them. Serial numbers that all tenants share are hidden: two of
them tell how many rows other tenants have made in between.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import InvalidCursor, InvalidRequest

Item = TypeVar("Item")

MAXIMUM_LIMIT = 1000
_SCOPE_BYTES = 8
_MAC_BYTES = 8


@dataclass(frozen=True)
class Page(Generic[Item]):
    """One page of a list. `next_cursor` is None on the last page."""

    items: list[Item]
    next_cursor: str | None


class Cursor:
    """Reads and makes the cursors of one list. `scope` identifies the list: others refuse its cursors.

    `bits`: how many bits a key of the list has. PostgreSQL refuses to compare a column with a larger number.
    `secret`: hides the keys of the list, and refuses cursors that the list has not made.
    """

    def __init__(self, *scope: object, bits: int = 63, secret: bytes | None = None) -> None:
        self._bits = bits
        self._secret = secret
        self._scope = hashlib.sha256(repr(scope).encode()).digest()[:_SCOPE_BYTES]

    def after(self, cursor: str | None) -> int:
        """The key of the last item before the page, 0 for the first page.

        Raises InvalidCursor if the cursor is invalid or belongs to another list.
        """
        if cursor is None:
            return 0
        try:
            content = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
            key = self._opened(content[_SCOPE_BYTES:])
        except (UnicodeEncodeError, binascii.Error, struct.error):
            raise InvalidCursor("the cursor is not valid") from None
        if content[:_SCOPE_BYTES] != self._scope:
            raise InvalidCursor("the cursor belongs to another list")
        if not 0 <= key < 1 << self._bits:
            raise InvalidCursor("the cursor is not valid")
        return key

    def page(self, items: Sequence[Item], keys: Sequence[int], limit: int) -> Page[Item]:
        """A page of at most `limit` items. Read `limit` + 1 items: the last one tells whether another page follows.

        `keys`: the key of each item, in the same order.
        """
        if len(items) <= limit:
            return Page(list(items), None)
        content = self._scope + self._sealed(keys[limit - 1])
        return Page(list(items[:limit]), base64.urlsafe_b64encode(content).decode())

    def _sealed(self, key: int) -> bytes:
        """The key as bytes, hidden if the list has a secret.

        The standard library has no cipher. This is SIV (RFC 5297) with HMAC in place of AES: a tag of the key, then the
        key under a stream that depends on the tag. Equal keys give equal cursors, and nothing else can be seen.
        """
        plain = struct.pack(">q", key)
        if self._secret is None:
            return plain
        tag = self._mac(b"tag", plain)
        return tag + _xor(plain, self._mac(b"key", tag))

    def _opened(self, sealed: bytes) -> int:
        """The key of `_sealed`. Raises struct.error for other bytes."""
        if self._secret is not None:
            tag, sealed = sealed[:_MAC_BYTES], _xor(sealed[_MAC_BYTES:], self._mac(b"key", sealed[:_MAC_BYTES]))
            if not hmac.compare_digest(tag, self._mac(b"tag", sealed)):
                raise struct.error("another secret")
        key: int = struct.unpack(">q", sealed)[0]
        return key

    def _mac(self, purpose: bytes, content: bytes) -> bytes:
        return hmac.digest(self._secret or b"", purpose + self._scope + content, "sha256")[:_MAC_BYTES]


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=False))


def check_limit(limit: int) -> int:
    """Returns the limit. Raises InvalidRequest unless it is 1 to 1,000."""
    if not 1 <= limit <= MAXIMUM_LIMIT:
        raise InvalidRequest(f"limit: 1 to {MAXIMUM_LIMIT}")
    return limit
