"""The secret that hides the keys of a list in its cursors.

It is made from the system identifier of PostgreSQL, a random-looking number that `initdb` chose. All servers of one
database read the same number, no tenant can read it, and nothing has to be stored. A database that is restored
elsewhere has another one: cursors from before are invalid there, and their lists are read again from the beginning.
"""

import hashlib
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncSession

_SELECT_IDENTIFIER = text("SELECT system_identifier FROM pg_control_system()")
_known: WeakKeyDictionary[Engine, bytes] = WeakKeyDictionary()


async def cursor_secret(session: AsyncSession) -> bytes:
    """32 bytes, the same for every session of one database. Asks the database once for each pool."""
    engine = session.get_bind().engine
    if engine not in _known:
        identifier = await session.scalar(_SELECT_IDENTIFIER)
        _known[engine] = hashlib.sha256(f"cursors of {identifier}".encode()).digest()
    return _known[engine]
