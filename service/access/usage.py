"""Usage: how much a tenant stores, in the units of its quotas."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.session import tenant_of

_USAGE = text("""
    SELECT (SELECT count(*) FROM gallery WHERE tenant_id = :tenant AND expires_at IS NULL) AS galleries,
        coalesce(sum(people), 0) AS people, coalesce(sum(faces), 0) AS faces, stored_bytes_v1(:tenant) AS stored_bytes
    FROM gallery_size WHERE tenant_id = :tenant
""")


@dataclass(frozen=True)
class Usage:
    """Stored amounts of a tenant. Bytes count references, names, metadata and waiting imports."""

    galleries: int
    people: int
    faces: int
    stored_bytes: int


async def read_usage(session: AsyncSession) -> Usage:
    """Current usage of the session's tenant."""
    row = (await session.execute(_USAGE, {"tenant": tenant_of(session)})).one()
    return Usage(**{name: int(value) for name, value in row._mapping.items()})
