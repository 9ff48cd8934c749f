"""Datasets that come with a request: loaded the first time, found by their digest afterwards.

Each becomes a scratch gallery of the caller's tenant. It is deleted after a time without use.
"""

import asyncio
import hashlib
import io
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from service.access.operator import operator_transaction
from service.access.tenants import list_tenants
from service.database.session import tenant_session
from service.embedding import EmbeddingSpace
from service.gallery.bulk_writing import add_references
from service.gallery.galleries import Gallery
from service.gallery.scratch import delete_expired_galleries, find_scratch_gallery, make_scratch_gallery
from service.identity.datasets.formats import detect_format
from service.identity.datasets.importing import batches
from service.identity.datasets.parsing import read_rows

_PIECES_AT_ONCE = 16
_DECIMAL_BYTES = 10


@dataclass(frozen=True)
class UploadedDataset:
    """A dataset file of any format in the pieces in which it arrived, and its SHA-256."""

    pieces: tuple[bytes, ...]
    digest: str

    def estimated_references(self, space: EmbeddingSpace) -> int:
        """About the number of embeddings in the file, for the cost of a search: decimals take 10 bytes or more."""
        return sum(map(len, self.pieces)) // (_DECIMAL_BYTES * space.dimension)


class ArrivingDataset:
    """A dataset file that is still arriving. A thread hashes it meanwhile."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []
        self._hashed = 0
        self._digest = hashlib.sha256()
        self._hashing: asyncio.Future[None] | None = None

    async def add(self, pieces: list[bytes]) -> None:
        """Add the next pieces, in order."""
        self._pieces += pieces
        self.size += sum(map(len, pieces))
        if len(self._pieces) - self._hashed >= _PIECES_AT_ONCE:
            await self._hash_on()

    async def complete(self) -> UploadedDataset:
        """The dataset, after everything has arrived."""
        await self._hash_on()
        await self._hash_on()  # waits for the last piece; there is nothing left to hash
        return UploadedDataset(tuple(self._pieces), self._digest.hexdigest())

    async def _hash_on(self) -> None:
        if self._hashing is not None:
            await self._hashing
        fresh, self._hashed = self._pieces[self._hashed :], len(self._pieces)
        self._hashing = asyncio.ensure_future(asyncio.to_thread(self._hash, fresh))

    def _hash(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._digest.update(piece)


async def gallery_of_dataset(
    session: AsyncSession, dataset: UploadedDataset, space: EmbeddingSpace, lifetime: timedelta
) -> Gallery:
    """The gallery that holds the dataset. It is loaded now unless it exists. The caller commits.

    Raises InvalidDataset, which names the row; nothing of the file is stored then.
    """
    while True:
        found = await find_scratch_gallery(session, dataset.digest, space, lifetime)
        if found is not None:
            return found
        made = await make_scratch_gallery(session, dataset.digest, space, lifetime)
        if made is not None:
            await _load(session, made, dataset)
            return made
        # Another request loaded the same dataset while this request waited for it.


async def delete_expired_datasets(engine: AsyncEngine) -> int:
    """Delete the expired datasets of every tenant, and return their number."""
    async with operator_transaction(engine) as connection:
        tenants = await list_tenants(connection)
    deleted = 0
    for tenant in tenants:
        async with tenant_session(engine, tenant.tenant_id) as session, session.begin():
            deleted += await delete_expired_galleries(session)
    return deleted


async def _load(session: AsyncSession, gallery: Gallery, dataset: UploadedDataset) -> None:
    """One pass: a mistake further on undoes the transaction."""
    with io.BytesIO(await asyncio.to_thread(b"".join, dataset.pieces)) as file:
        shape = detect_format(file)
        async for batch in batches(read_rows(file, shape, gallery.space)):
            await add_references(session, gallery, batch)
