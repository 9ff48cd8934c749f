"""The one place that says for which tenant a transaction speaks.

A `TenantSession` sets `app.tenant` when its transaction begins, with the first query and not before, so no
connection is held while a model works. Row-level security does the rest; a session without a tenant sees nothing.
"""

from typing import Any

from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

TENANT_POLICY = "tenant_id = NULLIF(current_setting('app.tenant', true), '')::integer"
"""What every policy asks. After a transaction the setting is '' and not NULL, hence NULLIF."""

# Search statements are written for one plan each: planned once a connection, JIT off, no parallel workers
# for lookups of a millisecond. Set together with the tenant, in the same round trip.
_BEGIN = text(
    "SELECT set_config('app.tenant', :tenant, true), set_config('plan_cache_mode', 'force_generic_plan', true)"
)


class TenantBound(Session):
    """The synchronous half of a tenant's session; listeners are attached to it alone."""


@event.listens_for(TenantBound, "after_begin")
def _speak_for_tenant(session: Session, _: SessionTransaction, connection: Connection) -> None:
    connection.execute(_BEGIN, {"tenant": str(session.info["tenant_id"])})


def tenant_session(bind: AsyncEngine | AsyncConnection, tenant_id: int) -> AsyncSession:
    """A session whose every transaction is bound to `tenant_id` by row-level security."""
    return AsyncSession(bind, sync_session_class=TenantBound, expire_on_commit=False, info={"tenant_id": tenant_id})


def tenant_of(session: AsyncSession) -> int:
    """The tenant a session speaks for; statements name it beside the policy."""
    info: dict[Any, Any] = session.info
    return int(info["tenant_id"])
