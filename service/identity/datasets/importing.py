"""Loads a dataset file into a gallery: the whole file is read and checked first, then written in batches.

The caller's transaction covers everything, so that a file is loaded whole or not at all.
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
"""Called with the rows written and the rows known so far. After the check the second number is the total."""


@dataclass(frozen=True)
class ImportResult:
    """Result of a load: people made, faces added, the format of the file, and rows passed over as duplicates."""

    people: int
    faces: int
    shape: DatasetFormat
    duplicates: int = 0


async def load_dataset(
    session: AsyncSession, gallery: Gallery, open_file: OpenFile, progress: ReportProgress
) -> ImportResult:
    """Load a file of any format. The caller commits. Raises InvalidDataset, which names the place of the mistake.

    A person is found by external id, else by name, else made. References are added to those that the person has; a row
    is passed over if its person has a reference of exactly the same numbers, so that loading a file again adds nothing.
    Loads into one gallery run in turn.
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
        people = faces = duplicates = 0
        async for batch in batches(read_rows(file, shape, gallery.space)):
            added = await add_references(session, gallery, batch, skips_duplicates=True)
            people, faces, duplicates = people + added.people, faces + added.faces, duplicates + added.duplicates
            await progress(faces + duplicates, total)
    return ImportResult(people, faces, shape, duplicates)


async def batches(rows: Iterator[ReferenceRow]) -> AsyncIterator[list[ReferenceRow]]:
    """Rows in bounded batches. A thread reads the next batch while the caller works on the last one."""
    reading = asyncio.create_task(asyncio.to_thread(_next_batch, rows))
    try:
        while batch := await reading:
            reading = asyncio.create_task(asyncio.to_thread(_next_batch, rows))
            yield batch
    finally:
        # the thread must end before the file is closed; the caller has its error, or another one
        with suppress(Exception):
            await asyncio.shield(reading)


def _next_batch(rows: Iterator[ReferenceRow]) -> list[ReferenceRow]:
    return list(itertools.islice(rows, BATCH_ROWS))
