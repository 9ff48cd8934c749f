"""Loads a dataset file into a gallery: first the whole file is read and checked, then it is written in batches.

Everything happens in the caller's one transaction, so nothing of a file is ever half there.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy.ext.asyncio import AsyncSession

from service.gallery.bulk_writing import ReferenceRow, add_references, begin_load
from service.gallery.galleries import Gallery
from service.identity.datasets.formats import DatasetFormat, detect_format
from service.identity.datasets.parsing import read_rows

BATCH_ROWS = 1000
OpenFile = Callable[[], BinaryIO]
ReportProgress = Callable[[int, int | None], Awaitable[None]]
"""Told of rows written and rows known so far; after the check the second number is the whole file's."""


@dataclass(frozen=True)
class ImportResult:
    """What was loaded: people new to the gallery, faces, and the file's shape."""

    people: int
    faces: int
    shape: DatasetFormat


async def load_dataset(
    session: AsyncSession, gallery: Gallery, open_file: OpenFile, progress: ReportProgress
) -> ImportResult:
    """Load a file of any shape; the caller commits. InvalidDataset names the place of what is wrong.

    People are found by external id, else by name, else made. A label's references are added to those there are.
    One load into a gallery is written at a time.
    """
    with open_file() as file:
        shape = await asyncio.to_thread(detect_format, file)
        total = 0
        async for batch in batches(read_rows(file, shape, gallery.space)):
            total += len(batch)
            await progress(0, total)
    with open_file() as file:
        await asyncio.to_thread(detect_format, file)
        await begin_load(session, gallery)
        people = faces = 0
        async for batch in batches(read_rows(file, shape, gallery.space)):
            added = await add_references(session, gallery, batch)
            people, faces = people + added.people, faces + added.faces
            await progress(faces, total)
    return ImportResult(people, faces, shape)


async def batches(rows: Iterator[ReferenceRow]) -> AsyncIterator[list[ReferenceRow]]:
    """Rows in bounded batches; a thread reads the next one while the caller works on the last."""
    reading = asyncio.create_task(asyncio.to_thread(_next_batch, rows))
    try:
        while batch := await reading:
            reading = asyncio.create_task(asyncio.to_thread(_next_batch, rows))
            yield batch
    finally:
        with suppress(Exception):  # the thread must not outlive the file; its error was told, or another one was
            await asyncio.shield(reading)


def _next_batch(rows: Iterator[ReferenceRow]) -> list[ReferenceRow]:
    return list(itertools.islice(rows, BATCH_ROWS))
