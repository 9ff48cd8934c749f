"""Temporary files for data of tenants: they have no name, and lie on the disk of DATA_DIR.

On Linux such a file never has a name (O_TMPFILE); elsewhere the name is removed at once. So the kernel frees the file
with the process, even if the process is killed. A named file with names and embeddings of people would stay.
"""

import contextlib
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from sqlalchemy.ext.asyncio import AsyncSession

SPOOL = "spool"
"""Name of the folder in DATA_DIR."""
TEMPORARY_FOLDER = "temporary_folder"
"""Execution option of the engine: the folder for temporary files, created if missing."""


def temporary_file(session: AsyncSession) -> BinaryIO:
    """A new file for reading and writing. Closing it frees it."""
    return cast(BinaryIO, tempfile.TemporaryFile(dir=_folder(session)))


def spool(session: AsyncSession, memory_bytes: int) -> BinaryIO:
    """The same, but in memory until it has more than `memory_bytes`."""
    folder = _folder(session)
    return cast(
        BinaryIO, tempfile.SpooledTemporaryFile(max_size=memory_bytes, dir=None if folder is None else str(folder))
    )


def _folder(session: AsyncSession) -> Path | None:
    """The folder of the session's engine; None, which is the system's own, if it cannot be made.

    With DATABASE_URL a server may run without a DATA_DIR that it can write to.
    """
    folder: Path | None = session.get_bind().get_execution_options().get(TEMPORARY_FOLDER)
    if folder is not None:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return folder
    return None
