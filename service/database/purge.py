"""Removes the bytes of erased rows from the files of the database.

DELETE hides a row. Its bytes stay in the pages of its table, of its long values (TOAST) and of its indexes until new
rows need the place, also after VACUUM. They stay in the write-ahead log (WAL) too: PostgreSQL renames old segments of
the log for later use, and a quiet installation does not come to use them for months. So a purge

1. waits for the transactions that can still see the rows,
2. writes each table anew (VACUUM FULL) and removes the old files,
3. overwrites the segments that are kept for later use, and removes the old ones instead of keeping them.

Neither replicas nor archives nor backups are reached, and the disk keeps freed blocks until it uses them again.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from sqlalchemy import URL

from service.database.logins import connect
from service.database.types import OWNER_ROLE
from service.errors import Conflict

LOCK_SECONDS = 60
"""Longest wait for the lock of one table, during which requests that need the table wait too."""
_POLL_SECONDS = 0.1
_MOST_SWITCHES = 1024
"""Segments that are written at most: 16 GiB of the usual size."""

_OUR_TABLES = """
    SELECT relation.oid, relation.relname
    FROM pg_class AS relation
    WHERE relation.relkind = 'r' AND relation.relnamespace = 'public'::regnamespace
        AND (pg_get_userbyid(relation.relowner) = %s OR starts_with(relation.relname, 'procrastinate_'))
    ORDER BY relation.relname
"""
_OLDER_TRANSACTIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database() AND xact_start < %s
        AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL) AND backend_type <> 'autovacuum worker'
"""
_KEEPERS = {
    "prepared transactions": "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()",
    "replication slots": "SELECT count(*) FROM pg_replication_slots",
    "replicas": "SELECT count(*) FROM pg_stat_replication",
}
_SEGMENTS = "SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$' ORDER BY name"
_CURRENT_SEGMENT = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"


@dataclass
class Purge:
    """What a purge has done. `shortcomings` says in words what it could not do; empty: everything was done."""

    tables: list[str] = field(default_factory=list)
    """The tables that were written anew."""
    segments_removed: int = 0
    """Number of segments of the WAL that existed before and do not any more."""
    shortcomings: list[str] = field(default_factory=list)


class _Table(NamedTuple):
    number: int
    name: str


def purge_database(administrator: URL) -> Purge:
    """Purge the tables of the service, and those of another application in the same database not. Blocks: as long as
    copying the database.

    Each table is locked (ACCESS EXCLUSIVE) while it is written: requests that need it wait. Raises Conflict if a
    transaction that began before, or a lock, does not end within LOCK_SECONDS.
    """
    with connect(administrator) as connection:
        connection.execute(sql.SQL("SET lock_timeout = {}").format(LOCK_SECONDS * 1000))
        done = Purge(shortcomings=list(_keepers(connection)))
        _wait_for_transactions(connection)
        for row in connection.execute(_OUR_TABLES, [OWNER_ROLE]).fetchall():
            _rewrite(connection, _Table(*row), done)
        try:
            _renew_log(connection, done)
        except psycopg.errors.InsufficientPrivilege:
            done.shortcomings.append(
                "the write-ahead log was not renewed: the login of DATABASE_URL is no superuser, so old segments keep "
                "what was erased until PostgreSQL uses them again"
            )
        return done


def _keepers(connection: psycopg.Connection[Any]) -> Iterator[str]:
    for what, query in _KEEPERS.items():
        if (count := _value(connection, query)) > 0:
            yield f"the server has {count} {what}, which can keep erased rows or the write-ahead log"
    if _value(connection, "SHOW archive_mode") != "off":
        yield "the write-ahead log is archived; the archive was not purged"


def _wait_for_transactions(connection: psycopg.Connection[Any]) -> None:
    """VACUUM FULL copies an erased row if a transaction that began before the erasure is still open."""
    now = _value(connection, "SELECT clock_timestamp()")
    deadline = time.monotonic() + LOCK_SECONDS
    while _value(connection, _OLDER_TRANSACTIONS, [now]) > 0:
        if time.monotonic() > deadline:
            raise Conflict("a transaction that can see erased rows is still open, such as an import: purge again later")
        time.sleep(_POLL_SECONDS)


def _rewrite(connection: psycopg.Connection[Any], table: _Table, done: Purge) -> None:
    """Write a table, its long values and its indexes into new files. Then mark its pages as visible.

    PostgreSQL refuses without an error if the login does not own the table, so the name of the file is compared.
    """
    name = sql.Identifier("public", table.name)
    before = _value(connection, "SELECT pg_relation_filenode(%s::oid)", [table.number])
    try:
        connection.execute(sql.SQL("VACUUM (FULL) {}").format(name))
    except psycopg.errors.LockNotAvailable:
        raise Conflict(f"the table {table.name} is in use for more than {LOCK_SECONDS} s: purge again later") from None
    if _value(connection, "SELECT pg_relation_filenode(%s::oid)", [table.number]) == before:
        done.shortcomings.append(
            f"the table {table.name} was not written anew: the login of DATABASE_URL does not own it"
        )
        return
    # An index-only scan of a search reads the visibility map, which the new files do not have yet.
    connection.execute(sql.SQL("VACUUM {}").format(name))
    done.tables.append(table.name)


def _renew_log(connection: psycopg.Connection[Any], done: Purge) -> None:
    """Leave no segment of the WAL that holds something from before.

    Segments after the current one were renamed for later use: their old content is overwritten by switching until the
    current segment is behind all of them. PostgreSQL fills the rest of a segment with zeros when it switches, and makes
    a new segment of zeros. The two checkpoints then remove the segments before the current one.
    """
    before = _segments(connection)
    with _without_recycling(connection):
        connection.execute("CHECKPOINT")
        last = max([*before, _value(connection, _CURRENT_SEGMENT)])
        for _ in range(_MOST_SWITCHES):
            if _value(connection, _CURRENT_SEGMENT) > last:
                break
            # Without a record in the segment, switching does nothing.
            connection.execute("SELECT pg_logical_emit_message(false, 'face-identity', 'purge')")
            connection.execute("SELECT pg_switch_wal()")
        for _ in range(2):
            connection.execute("SELECT pg_logical_emit_message(false, 'face-identity', 'purge')")
            connection.execute("CHECKPOINT")
        left = [name for name in _segments(connection) if name <= last]
    done.segments_removed = len(set(before) - set(_segments(connection)))
    if left:
        done.shortcomings.append(
            f"{len(left)} old segments of the write-ahead log are kept by the server: see wal_keep_size, archiving and "
            "replication slots"
        )


@contextmanager
def _without_recycling(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Let checkpoints remove old segments instead of renaming them for later use. Ends with the former setting."""
    former = _value(connection, "SHOW wal_recycle")
    connection.execute("ALTER SYSTEM SET wal_recycle = off")
    try:
        _reload(connection, "off")
        yield
    finally:
        connection.execute("ALTER SYSTEM RESET wal_recycle")
        _reload(connection, former)


def _reload(connection: psycopg.Connection[Any], expected: str) -> None:
    """Let the server read its settings, and wait until this session has them: the checkpointer has them by then too.

    Both get the same signal; a checkpoint reads it before it begins.
    """
    connection.execute("SELECT pg_reload_conf()")
    deadline = time.monotonic() + LOCK_SECONDS
    while _value(connection, "SHOW wal_recycle") != expected and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _segments(connection: psycopg.Connection[Any]) -> list[str]:
    return [name for (name,) in connection.execute(_SEGMENTS).fetchall()]


def _value(connection: psycopg.Connection[Any], query: str, values: list[Any] | None = None) -> Any:
    row = connection.execute(query, values).fetchone()
    return None if row is None else row[0]
