"""How many people, faces and templates a gallery holds: exact, kept in the transaction that changes it.

A gallery has as many counting rows as it ever had writers at once: a writer takes one that nobody holds, so nobody
waits for another's import. Reading is a sum over those few rows.
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.identifiers import new_identifier
from service.database.tenancy import tenant_of


@dataclass(frozen=True)
class Change:
    """By how much a gallery grows; negative where it shrinks."""

    people: int = 0
    faces: int = 0
    templates: int = 0


_COUNT = text("""
    WITH free AS (
        SELECT slot FROM gallery_size
        WHERE tenant_id = :tenant AND gallery_id = :gallery
        ORDER BY slot LIMIT 1 FOR UPDATE SKIP LOCKED
    ), counted AS (
        UPDATE gallery_size SET people = people + :people, faces = faces + :faces, templates = templates + :templates
        FROM free
        WHERE tenant_id = :tenant AND gallery_id = :gallery AND gallery_size.slot = free.slot
        RETURNING 1
    )
    INSERT INTO gallery_size (tenant_id, gallery_id, slot, people, faces, templates)
    SELECT :tenant, :gallery, :slot, :people, :faces, :templates WHERE NOT EXISTS (SELECT FROM counted)
""")


async def count(session: AsyncSession, gallery_id: int, change: Change) -> None:
    """Count a change of a gallery, in the session's transaction."""
    if change == Change():
        return
    values = {"tenant": tenant_of(session), "gallery": gallery_id, "slot": new_identifier()}
    values |= {"people": change.people, "faces": change.faces, "templates": change.templates}
    await session.execute(_COUNT, values)
