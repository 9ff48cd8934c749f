"""The embedded PostgreSQL of a benchmark, and the memory of its processes."""

from pathlib import Path

from service.database.connection import Database, open_database
from service.database.schema.migrate import migrate
from service.settings import Settings


def settings_in(folder: Path) -> Settings:
    """Return default settings with all data in the folder."""
    return Settings(_env_file=None, data_dir=folder, encoder="fake", database_url=None, database_pool_size=1)


def open_migrated(folder: Path) -> Database:
    """Open the folder's own server: start it or join it."""
    database = open_database(settings_in(folder))
    migrate(database.logins)
    return database


def memory_of(folder: Path) -> int:
    """Return the bytes that the server's processes hold, with shared memory counted once (proportional set sizes)."""
    postmaster = int((folder / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0])
    processes = [postmaster, *_children(postmaster)]
    return sum(_proportional_bytes(process) for process in processes)


def _children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found]


def _proportional_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # The process has just ended.
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
