"""Exact values of references: how they are stored, and the stream of all references with them.

Exact values are float32 if that loses nothing, else float64, little-endian. The length tells which of the two it is:
four or eight bytes per number. Searches compare vectors of half precision instead.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.identifiers import to_text
from service.gallery import tables
from service.gallery.galleries import Gallery

ROWS_AT_ONCE = 500


@dataclass(frozen=True)
class Reference:
    """A stored reference and its person. `values` are the exact numbers of the enrollment, shape (dimension,)."""

    name: str
    external_id: str | None
    metadata: dict[str, Any]
    values: npt.NDArray[np.float64]
    source: Any | None
    face_id: str


def to_bytes(values: Sequence[float] | npt.NDArray[np.floating]) -> bytes:
    """The bytes of finite numbers, without loss."""
    wide = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f4")
    return (narrow if np.array_equal(narrow.astype(np.float64), wide) else wide.astype("<f8")).tobytes()


def from_bytes(content: bytes, dimension: int) -> npt.NDArray[np.float64]:
    """The numbers in the bytes that `to_bytes` made, shape (dimension,)."""
    return np.frombuffer(content, dtype="<f4" if len(content) == 4 * dimension else "<f8").astype(np.float64)


async def stream_references(
    session: AsyncSession, gallery: Gallery, *, by_name: bool = False
) -> AsyncIterator[Reference]:
    """Stream all references in the order of enrollment.

    `by_name` groups them by name; the groups are in the order of their first reference.
    """
    rows = await session.stream(_statement(gallery, by_name=by_name), execution_options={"yield_per": ROWS_AT_ONCE})
    async for row in rows:
        values = from_bytes(row.original, gallery.space.dimension)
        yield Reference(row.name, row.external_id, row.metadata, values, row.source, to_text(row.face_id))


def _statement(gallery: Gallery, *, by_name: bool) -> Any:
    people, details = tables.person.c, tables.face_detail.c
    columns = (people.name, people.external_id, people.metadata, details.original, details.source, details.face_id)
    joined = tables.face_detail.join(
        tables.person,
        (people.tenant_id == details.tenant_id)
        & (people.gallery_id == details.gallery_id)
        & (people.id == details.person_id),
    )
    statement = (
        select(*columns)
        .select_from(joined)
        .where(details.tenant_id == gallery.tenant_id, details.gallery_id == gallery.id)
    )
    if by_name:
        first = func.min(details.face_id).over(partition_by=people.name)
        return statement.order_by(first, details.face_id)
    return statement.order_by(details.face_id)
