"""How many people, faces, templates and bytes a gallery holds: exact, kept in the transaction that changes it.

A gallery has as many counting rows as it ever had writers at once: a writer takes one that nobody holds, so nobody
waits for another's import. Reading is a sum over those few rows.
"""

from dataclasses import asdict, dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.identifiers import new_identifier
from service.database.quotas import check_at_commit
from service.database.session import tenant_of


@dataclass(frozen=True)
class SizeChange:
    """By how much a gallery grows; negative where it shrinks."""

    people: int = 0
    faces: int = 0
    templates: int = 0
    bytes: int = 0
    """As `PERSON_BYTES` and `FACE_BYTES` measure what callers chose the size of."""


PERSON_BYTES = "octet_length(name) + coalesce(octet_length(external_id), 0) + octet_length(metadata::text)"
"""SQL over a row of `person`."""
FACE_BYTES = (
    "octet_length(original) + coalesce(octet_length(source::text), 0) + coalesce(octet_length(detection::text), 0)"
)
"""SQL over a row of `face_detail`."""

_COUNT = text("""
    WITH free AS (
        SELECT slot FROM gallery_size
        WHERE tenant_id = :tenant AND gallery_id = :gallery
        ORDER BY slot LIMIT 1 FOR UPDATE SKIP LOCKED
    ), counted AS (
        UPDATE gallery_size SET people = people + :people, faces = faces + :faces,
            templates = templates + :templates, bytes = bytes + :bytes
        FROM free
        WHERE tenant_id = :tenant AND gallery_id = :gallery AND gallery_size.slot = free.slot
        RETURNING 1
    )
    INSERT INTO gallery_size (tenant_id, gallery_id, slot, people, faces, templates, bytes)
    SELECT :tenant, :gallery, :slot, :people, :faces, :templates, :bytes WHERE NOT EXISTS (SELECT FROM counted)
""")


async def record_change(session: AsyncSession, gallery_id: int, change: SizeChange) -> None:
    """Count a change of a gallery, in the session's transaction."""
    if change == SizeChange():
        return
    if max(change.people, change.faces, change.bytes) > 0:
        check_at_commit(session, gallery_id)
    values = {"tenant": tenant_of(session), "gallery": gallery_id, "slot": new_identifier()} | asdict(change)
    await session.execute(_COUNT, values)
