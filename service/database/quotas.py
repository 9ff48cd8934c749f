"""Checks the quotas of a tenant just before a transaction commits.

Code that stores something calls `check_at_commit`; the check itself runs in the session's commit, in one place for
routes, worker and commands. Transactions of a tenant with quotas commit one after the other (an advisory lock, held
from the check to the commit): otherwise two of them could both count the last free place as their own.
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from service.database.session import TenantBound, tenant_of
from service.errors import PayloadTooLarge, QuotaExceeded

RETRY_AFTER_SECONDS = 3600
"""Waiting frees no space: only erasing or the operator does. Clients that retry by themselves should do it rarely."""
_KEY = "growth"
_SELECT_EXCEEDED_QUOTA = text("SELECT exceeded_quota_v1(:tenant, :made_gallery, CAST(:galleries AS integer[]), :ahead)")

# A tenant without the quota does not pay for the sum.
_SELECT_STORED_BYTES = text("""
    SELECT maximum_stored_bytes AS quota,
        CASE WHEN maximum_stored_bytes IS NULL THEN 0 ELSE stored_bytes_v1(:tenant) END AS stored
    FROM tenant WHERE tenant_id = :tenant
""")


@dataclass
class _Growth:
    """What the transaction of a session has stored so far."""

    galleries: set[int] = field(default_factory=set)
    made_gallery: bool = False


def check_at_commit(session: AsyncSession, gallery_id: int | None = None, *, made_gallery: bool = False) -> None:
    """Mark the session's transaction as storing something, in the gallery if one is named.

    The commit then checks the quotas. If one is exceeded, it raises QuotaExceeded and nothing is stored.
    """
    growth = session.info.setdefault(_KEY, _Growth())
    growth.made_gallery |= made_gallery
    if gallery_id is not None:
        growth.galleries.add(gallery_id)


async def check_quota_for_one_face(session: AsyncSession, gallery_id: int) -> None:
    """Raises QuotaExceeded if one more face would exceed a quota. Call it before expensive work."""
    values = {"tenant": tenant_of(session), "made_gallery": False, "galleries": [gallery_id], "ahead": 1}
    _refuse((await session.execute(_SELECT_EXCEEDED_QUOTA, values)).scalar_one())


async def check_room_for_bytes(session: AsyncSession, size: int) -> int | None:
    """The bytes that the tenant may still store, None if it has no such quota. Call it before `size` bytes arrive.

    Raises QuotaExceeded if there is no room for `size` bytes, PayloadTooLarge if there never is.
    """
    quota, stored = (await session.execute(_SELECT_STORED_BYTES, {"tenant": tenant_of(session)})).one()
    if quota is None:
        return None
    if size > quota:
        raise PayloadTooLarge(f"the tenant's quota maximum_stored_bytes is {quota} bytes", limit_bytes=quota)
    if size > quota - stored:
        _refuse("maximum_stored_bytes")
    return max(0, int(quota - stored))


def no_room() -> QuotaExceeded:
    """The error for bytes beyond the room that `check_room_for_bytes` has found."""
    return _exceeded("maximum_stored_bytes")


@event.listens_for(TenantBound, "before_commit")
def _check_quotas(session: Session) -> None:
    growth: _Growth | None = session.info.get(_KEY)
    if growth is None or session.in_nested_transaction():
        return
    del session.info[_KEY]
    values: dict[str, Any] = {"tenant": session.info["tenant_id"], "made_gallery": growth.made_gallery, "ahead": 0}
    _refuse(session.execute(_SELECT_EXCEEDED_QUOTA, values | {"galleries": sorted(growth.galleries)}).scalar_one())


@event.listens_for(TenantBound, "after_rollback")
def _discard(session: Session) -> None:
    session.info.pop(_KEY, None)


def _refuse(quota: str | None) -> None:
    if quota is not None:
        raise _exceeded(quota)


def _exceeded(quota: str) -> QuotaExceeded:
    detail = f"the tenant's quota {quota} is used up; erase something or ask the operator for more"
    return QuotaExceeded(detail, retry_after_seconds=RETRY_AFTER_SECONDS, quota=quota)
