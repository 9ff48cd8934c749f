"""Pages of lists. An opaque cursor holds the key of the last item of a page and a digest of the list."""

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import InvalidCursor, InvalidRequest

Item = TypeVar("Item")

MAXIMUM_LIMIT = 1000
_SCOPE_BYTES = 8


@dataclass(frozen=True)
class Page(Generic[Item]):
    """One page of a list. `next_cursor` is None on the last page."""

    items: list[Item]
    next_cursor: str | None


class Cursor:
    """Reads and makes the cursors of one list. `scope` identifies the list: others refuse its cursors."""

    def __init__(self, *scope: object) -> None:
        self._scope = hashlib.sha256(repr(scope).encode()).digest()[:_SCOPE_BYTES]

    def after(self, cursor: str | None) -> int:
        """The key of the last item before the page, 0 for the first page.

        Raises InvalidCursor if the cursor is invalid or belongs to another list.
        """
        if cursor is None:
            return 0
        try:
            content = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
            key: int = struct.unpack(">q", content[_SCOPE_BYTES:])[0]
        except (UnicodeEncodeError, binascii.Error, struct.error):
            raise InvalidCursor("the cursor is not valid") from None
        if content[:_SCOPE_BYTES] != self._scope:
            raise InvalidCursor("the cursor belongs to another list")
        return key

    def page(self, items: Sequence[Item], keys: Sequence[int], limit: int) -> Page[Item]:
        """A page of at most `limit` items. Read `limit` + 1 items: the last one tells whether another page follows.

        `keys`: the key of each item, in the same order.
        """
        if len(items) <= limit:
            return Page(list(items), None)
        content = self._scope + struct.pack(">q", keys[limit - 1])
        return Page(list(items[:limit]), base64.urlsafe_b64encode(content).decode())


def check_limit(limit: int) -> int:
    """Returns the limit. Raises InvalidRequest unless it is 1 to 1,000."""
    if not 1 <= limit <= MAXIMUM_LIMIT:
        raise InvalidRequest(f"limit: 1 to {MAXIMUM_LIMIT}")
    return limit
