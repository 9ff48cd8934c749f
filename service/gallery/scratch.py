"""Galleries for datasets that come with a request. They expire, and no other function lists, finds or changes them.

Their names hold a slash, which the names of other galleries cannot have.
"""

from datetime import timedelta

from sqlalchemy import delete, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.quotas import check_at_commit
from service.database.session import tenant_of
from service.embedding import EmbeddingSpace
from service.gallery import tables
from service.gallery.galleries import Gallery, gallery_of, space_columns, with_counts


async def find_scratch_gallery(
    session: AsyncSession, content: str, space: EmbeddingSpace, lifetime: timedelta
) -> Gallery | None:
    """The unexpired gallery made from `content` (a digest) in that space, or None.

    Extends its life if less than half of `lifetime` is left, so that most requests write nothing.
    """
    galleries = tables.gallery.c
    named = (galleries.name == _name(content, space)) & (galleries.expires_at > func.now())
    is_aging = (galleries.expires_at < func.now() + lifetime / 2).label("is_aging")
    statement = with_counts(named, tenant_of(session)).add_columns(is_aging)
    row = (await session.execute(statement)).one_or_none()
    if row is None or (row.is_aging and not await _prolong(session, row.id, lifetime)):
        return None
    return gallery_of(row)


async def make_scratch_gallery(
    session: AsyncSession, content: str, space: EmbeddingSpace, lifetime: timedelta
) -> Gallery | None:
    """Make an empty gallery to be filled in this transaction, after deleting the tenant's expired ones.

    Returns None if another transaction has made it; that transaction has committed by then.
    """
    await delete_expired_galleries(session)
    values = space_columns(space) | {
        "tenant_id": tenant_of(session),
        "name": _name(content, space),
        "expires_at": func.now() + lifetime,
    }
    check_at_commit(session, made_gallery=True)
    statement = insert(tables.gallery).values(values).on_conflict_do_nothing().returning(tables.gallery)
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else gallery_of(row, is_new=True)


async def delete_expired_galleries(session: AsyncSession) -> int:
    """Delete the tenant's expired galleries, and return their number."""
    galleries = tables.gallery.c
    expired = delete(tables.gallery).where(galleries.tenant_id == tenant_of(session), galleries.expires_at < func.now())
    return len((await session.execute(expired.returning(galleries.id))).all())


async def _prolong(session: AsyncSession, gallery_id: int, lifetime: timedelta) -> bool:
    """False if the gallery was deleted meanwhile."""
    galleries = tables.gallery.c
    prolonged = (
        update(tables.gallery)
        .where(galleries.tenant_id == tenant_of(session), galleries.id == gallery_id)
        .values(expires_at=func.now() + lifetime)
    )
    return (await session.execute(prolonged.returning(galleries.id))).one_or_none() is not None


def _name(content: str, space: EmbeddingSpace) -> str:
    return f"scratch/{content}/{space.digest}"
