"""What a transaction stores is held to its tenant's quotas just before it commits, whoever began it.

Rooms that store say so with `grew`. Transactions of one tenant that has quotas commit one after the other, so that
two of them never fill the same last place; none waits longer than another's commit takes.
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from service.database.session import TenantBound, tenant_of
from service.errors import QuotaExceeded

RETRY_AFTER_SECONDS = 3600
"""Room comes from erasing or from the operator, not from waiting; clients that come back by themselves come seldom."""
_KEY = "growth"
_EXCEEDED = text("SELECT exceeded_quota_v1(:tenant, :made_gallery, CAST(:galleries AS integer[]), :ahead)")


@dataclass
class _Growth:
    """What a session's transaction has stored so far."""

    galleries: set[int] = field(default_factory=set)
    made_gallery: bool = False


def check_at_commit(session: AsyncSession, gallery_id: int | None = None, *, made_gallery: bool = False) -> None:
    """Let the session's commit look at the quotas: something was stored, in that gallery where one is named.

    The commit raises QuotaExceeded, and nothing is stored, where a quota is exceeded.
    """
    growth = session.info.setdefault(_KEY, _Growth())
    growth.made_gallery |= made_gallery
    if gallery_id is not None:
        growth.galleries.add(gallery_id)


async def check_quota_for_one_face(session: AsyncSession, gallery_id: int) -> None:
    """QuotaExceeded where the gallery could not take one more face: asked before expensive work is done."""
    values = {"tenant": tenant_of(session), "made_gallery": False, "galleries": [gallery_id], "ahead": 1}
    _refuse((await session.execute(_EXCEEDED, values)).scalar_one())


@event.listens_for(TenantBound, "before_commit")
def _settle(session: Session) -> None:
    growth: _Growth | None = session.info.get(_KEY)
    if growth is None or session.in_nested_transaction():
        return
    del session.info[_KEY]
    values: dict[str, Any] = {"tenant": session.info["tenant_id"], "made_gallery": growth.made_gallery, "ahead": 0}
    _refuse(session.execute(_EXCEEDED, values | {"galleries": sorted(growth.galleries)}).scalar_one())


@event.listens_for(TenantBound, "after_rollback")
def _forget(session: Session) -> None:
    session.info.pop(_KEY, None)


def _refuse(quota: str | None) -> None:
    if quota is not None:
        detail = f"the tenant's quota {quota} is used up; erase something or ask the operator for more"
        raise QuotaExceeded(detail, retry_after_seconds=RETRY_AFTER_SECONDS, quota=quota)
