"""Counters of a gallery: people, faces, templates and bytes, exact, changed in the transaction that changes the
gallery.

One counter row per gallery would make all writers of the gallery wait for each other, for as long as an import runs. So
a gallery has several counter rows: a writer takes a row that no other transaction has locked, or adds a row. Reading
sums up those few rows.
"""

from dataclasses import asdict, dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.identifiers import new_identifier
from service.database.quotas import check_at_commit
from service.database.session import tenant_of


@dataclass(frozen=True)
class SizeChange:
    """Change of a gallery's counters. Negative numbers shrink them."""

    people: int = 0
    faces: int = 0
    templates: int = 0
    bytes: int = 0
    """Bytes of the values whose size the caller chooses, as `PERSON_BYTES` and `FACE_BYTES` measure them."""


PERSON_BYTES = "octet_length(name) + coalesce(octet_length(external_id), 0) + octet_length(metadata::text)"
"""SQL expression over a row of `person`."""
FACE_BYTES = (
    "octet_length(original) + coalesce(octet_length(source::text), 0) + coalesce(octet_length(detection::text), 0)"
)
"""SQL expression over a row of `face_detail`."""

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
    """Change the gallery's counters in the session's transaction, and check the tenant's quotas at its commit."""
    if change == SizeChange():
        return
    if max(change.people, change.faces, change.bytes) > 0:
        check_at_commit(session, gallery_id)
    values = {"tenant": tenant_of(session), "gallery": gallery_id, "slot": new_identifier()} | asdict(change)
    await session.execute(_COUNT, values)
