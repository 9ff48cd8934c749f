"""The import job: receives a dataset file whole, then a worker loads it in one transaction."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.access.keys import check_not_revoked
from service.database.quotas import check_quota_for_one_face, check_room_for_bytes, no_room
from service.database.session import release_connection
from service.database.spooling import temporary_file
from service.errors import InvalidDataset, NotFound, PayloadTooLarge
from service.gallery.bulk_writing import finish_load
from service.gallery.galleries import Gallery, find_gallery
from service.identity.datasets.importing import ReportProgress, load_dataset
from service.identity.spaces import find_same_gallery
from service.jobs.inputs import store_input, write_input
from service.jobs.jobs import Job, create_job

IMPORT = "import"
LARGE_FACES = 1000
"""An import of at least this many faces is followed by a vacuum. Fewer change nothing that a search would notice."""


@dataclass(frozen=True)
class ArrivingFile:
    """A dataset file that a client is sending."""

    pieces: AsyncIterator[bytes]
    limit_bytes: int
    """Largest file that the server accepts."""
    declared_bytes: int
    """Its length, as far as the client has told it; else 0."""


async def start_import(
    session: AsyncSession, gallery_name: str, arriving: ArrivingFile, key_id: int | None = None
) -> Job:
    """Keep the file and queue its import, both when the caller commits. `key_id` is the key that requests it.

    The import fails if the key is revoked before it has ended. Raises Unauthenticated if it was revoked meanwhile.

    The quota of stored bytes is checked before the file arrives and while it arrives, so that a file that cannot be
    stored does not fill the disk. No connection is held meanwhile, so the session must have no uncommitted writes.
    Raises PayloadTooLarge or QuotaExceeded.
    """
    gallery = await find_gallery(session, gallery_name)
    await check_quota_for_one_face(session, gallery.id)
    room_bytes = await check_room_for_bytes(session, arriving.declared_bytes)
    await release_connection(session)
    with temporary_file(session) as file:
        await _receive(arriving, file, room_bytes)
        gallery = await find_same_gallery(session, gallery)
        arguments = {"gallery": gallery.name, "gallery_id": gallery.id, "key_id": key_id}
        job = await create_job(session, IMPORT, arguments, one_at_a_time=f"import into gallery {gallery.id}")
        await store_input(session, job, file)
    if key_id is not None:
        await check_not_revoked(session, key_id, until_commit=True)
    return job


async def run_import(session: AsyncSession, job: Job, progress: ReportProgress) -> dict[str, Any]:
    """Load the file of the job in the session's transaction. The result has people, faces and the file's format."""
    gallery = await _gallery_of(session, job)
    with temporary_file(session) as file:
        await write_input(session, job, file)
        return asdict(await load_dataset(session, gallery, lambda: _from_beginning(file), progress))


def _from_beginning(file: BinaryIO) -> BinaryIO:
    """Another handle on the same file, at its beginning. The caller closes it, and the file stays open."""
    again = os.fdopen(os.dup(file.fileno()), "rb")
    again.seek(0)
    return again


async def tidy_after_import(engine: AsyncEngine, result: dict[str, Any]) -> None:
    """Vacuum after a large import, once the import is committed."""
    if result["faces"] >= LARGE_FACES:
        await finish_load(engine)


async def _receive(arriving: ArrivingFile, file: BinaryIO, room_bytes: int | None) -> None:
    size = 0
    async for chunk in arriving.pieces:
        size += len(chunk)
        if size > arriving.limit_bytes:
            raise PayloadTooLarge(f"the dataset has more than {arriving.limit_bytes} bytes")
        if room_bytes is not None and size > room_bytes:
            raise no_room()
        await asyncio.to_thread(file.write, chunk)
    if size == 0:
        raise InvalidDataset("the file is empty")
    await asyncio.to_thread(file.seek, 0)


async def _gallery_of(session: AsyncSession, job: Job) -> Gallery:
    gallery = await find_gallery(session, job.arguments["gallery"])
    if gallery.id != job.arguments["gallery_id"]:
        raise NotFound(f"gallery {gallery.name!r} was deleted after the import was requested")
    return gallery


async def run_requested_import(session: AsyncSession, job: Job, progress: ReportProgress) -> dict[str, Any]:
    """Run the import for the key that requested it.

    Raises Unauthenticated if the key was revoked, before or while the file is loaded: then nothing is stored.
    """
    await _check_requester(session, job)
    result = await run_import(session, job, progress)
    await _check_requester(session, job, until_commit=True)
    return result


async def _check_requester(session: AsyncSession, job: Job, *, until_commit: bool = False) -> None:
    """A job of a command, or of a release before this rule, names no key."""
    key_id = job.arguments.get("key_id")
    if key_id is not None:
        await check_not_revoked(session, key_id, until_commit=until_commit)
