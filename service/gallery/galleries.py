"""Galleries of a tenant: making, finding, listing, changing, deleting; and the counters of each gallery.

A gallery is bound to one embedding space. Its counters (people, faces, templates, bytes) are exact: they change in the
transaction that changes the gallery.
"""

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Row, Select, delete, exists, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.cursor_secret import cursor_secret
from service.database.identifiers import new_identifier
from service.database.names import canonical_name, may_be_stored
from service.database.pagination import Cursor, Page, check_limit
from service.database.quotas import check_at_commit
from service.database.session import tenant_of
from service.database.statements import fetch_rows
from service.embedding import EmbeddingSpace, Metric
from service.errors import Conflict, Forbidden, InvalidRequest, NotFound
from service.gallery import tables
from service.gallery.content import UNSET, Unset, check_gallery_name


@dataclass(frozen=True)
class GalleryCounts:
    """Numbers of people and faces in a gallery."""

    people: int
    faces: int


@dataclass(frozen=True)
class Gallery:
    """A biometric enrollment database of a tenant. The counters are those of the moment of the lookup."""

    tenant_id: int
    id: int
    name: str
    space: EmbeddingSpace
    own_threshold: float | None
    created_at: datetime
    verification_only: bool = False
    people: int = 0
    faces: int = 0
    templates: int = 0

    @property
    def threshold(self) -> float:
        """Minimum similarity of a match: the gallery's own threshold, else the default of its embedding space."""
        return self.space.threshold if self.own_threshold is None else self.own_threshold

    def check_identification(self) -> None:
        """Raises Forbidden if the gallery allows verification only. Every identification calls this first."""
        if self.verification_only:
            raise Forbidden(f"gallery {self.name!r} allows verification (1:1) only, not identification (1:N)")


@dataclass(frozen=True)
class SizeChange:
    """Change of a gallery's counters. Negative numbers shrink them."""

    people: int = 0
    faces: int = 0
    templates: int = 0
    bytes: int = 0
    """Bytes of the values whose size the caller chooses, as `PERSON_BYTES` and `FACE_BYTES` measure them."""


class GalleryRow(NamedTuple):
    """A row of `_SELECT_GALLERY`: the columns of `gallery`, and the sums of its counters."""

    tenant_id: int
    id: int
    name: str
    embedding_space: str
    embedding_space_digest: str
    dimension: int
    metric: Metric
    default_threshold: float
    threshold: float | None
    verification_only: bool
    created_at: datetime
    people: int
    faces: int
    templates: int


# Plain SQL for psycopg: every request looks up its gallery, and SQLAlchemy took longer to build the statement than
# PostgreSQL to answer it.
_SELECT_GALLERY = """
    SELECT gallery.tenant_id, gallery.id, gallery.name, gallery.embedding_space, gallery.embedding_space_digest,
        gallery.dimension, gallery.metric, gallery.default_threshold, gallery.threshold, gallery.verification_only,
        gallery.created_at, counted.people, counted.faces, counted.templates
    FROM gallery CROSS JOIN LATERAL (
        SELECT coalesce(sum(people), 0) AS people, coalesce(sum(faces), 0) AS faces,
            coalesce(sum(templates), 0) AS templates
        FROM gallery_size
        WHERE gallery_size.tenant_id = %(tenant)s AND gallery_size.gallery_id = gallery.id
    ) AS counted
    WHERE gallery.tenant_id = %(tenant)s AND gallery.name = %(name)s AND gallery.expires_at IS NULL
"""

PERSON_BYTES = "octet_length(name) + coalesce(octet_length(external_id), 0) + octet_length(metadata::text)"
"""SQL expression over a row of `person`."""
FACE_BYTES = (
    "octet_length(original) + coalesce(octet_length(source::text), 0) + coalesce(octet_length(detection::text), 0)"
)
"""SQL expression over a row of `face_detail`."""

# One counter row per gallery would make all writers of the gallery wait for each other, for as long as an import runs.
# So a gallery has several counter rows: a writer takes a row that no other transaction has locked, or adds a row.
# Reading sums up those few rows.
_ADD_TO_COUNTERS = text("""
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


async def create_gallery(
    session: AsyncSession,
    name: str,
    space: EmbeddingSpace,
    threshold: float | None = None,
    *,
    verification_only: bool = False,
) -> Gallery:
    """Make an empty gallery. Raises Conflict if the tenant has a gallery of that name."""
    values = space_columns(space) | {
        "tenant_id": tenant_of(session),
        "name": check_gallery_name(name),
        "threshold": _check_threshold(threshold),
        "verification_only": verification_only,
    }
    check_at_commit(session, made_gallery=True)
    statement = insert(tables.gallery).values(values).returning(tables.gallery)
    try:
        async with session.begin_nested():
            row = (await session.execute(statement)).one()
    except IntegrityError as error:
        raise Conflict(f"the gallery {name!r} already exists") from error
    return gallery_of(row, is_new=True)


async def check_galleries_exist(session: AsyncSession, names: Collection[str], remedy: str) -> None:
    """Raises InvalidRequest, which names the galleries that do not exist and the `remedy`."""
    galleries = tables.gallery.c
    found = select(galleries.name).where(galleries.tenant_id == tenant_of(session), galleries.name.in_(names))
    missing = sorted(set(names) - set((await session.scalars(found)).all()))
    if missing:
        listed = ", ".join(repr(name) for name in missing[:10])
        reason = f"there is no gallery named {listed}; {remedy}"
        raise InvalidRequest(f"galleries: {reason}", errors=[{"field": "body.galleries", "reason": reason}])


async def find_gallery(session: AsyncSession, name: str) -> Gallery:
    """The gallery of that name. Raises NotFound if the tenant has none."""
    values = {"tenant": tenant_of(session), "name": canonical_name(name)}
    rows = await fetch_rows(session, _SELECT_GALLERY, values) if may_be_stored(name) else []
    if not rows:
        raise NotFound(f"there is no gallery named {name!r}")
    return gallery_of(GalleryRow(*rows[0]))


async def list_galleries(
    session: AsyncSession, limit: int = 100, cursor: str | None = None, names: frozenset[str] | None = None
) -> Page[Gallery]:
    """The tenant's galleries in the order of creation, only those in `names` if given."""
    scope = "galleries", tenant_of(session), sorted(names) if names is not None else None
    cursors = Cursor(*scope, bits=31, secret=await cursor_secret(session))  # the numbers are those of all tenants
    wanted = _IS_LASTING & (tables.gallery.c.id > cursors.after(cursor))
    if names is not None:
        wanted &= tables.gallery.c.name.in_(names)
    statement = with_counts(wanted, tenant_of(session)).order_by(tables.gallery.c.id).limit(check_limit(limit) + 1)
    rows = (await session.execute(statement)).all()
    galleries = [gallery_of(row) for row in rows]
    return cursors.page(galleries, [gallery.id for gallery in galleries], limit)


async def update_gallery(
    session: AsyncSession,
    gallery: Gallery,
    *,
    name: str | None = None,
    threshold: float | Unset | None = UNSET,
    verification_only: bool | None = None,
) -> Gallery:
    """Change name, threshold (None: default of the embedding space) or use. Raises Conflict if the name is taken."""
    values: dict[str, Any] = {} if verification_only is None else {"verification_only": verification_only}
    if name is not None:
        values["name"] = check_gallery_name(name)
    if not isinstance(threshold, Unset):
        values["threshold"] = _check_threshold(threshold)
    if values:
        statement = update(tables.gallery).where(_is(gallery)).values(values).returning(tables.gallery.c.id)
        try:
            async with session.begin_nested():
                changed = (await session.execute(statement)).one_or_none()
        except IntegrityError as error:
            raise Conflict(f"the gallery {name!r} already exists") from error
        if changed is None:
            raise NotFound(f"there is no gallery named {gallery.name!r}")
    return await find_gallery(session, gallery.name if name is None else name)


async def delete_gallery(session: AsyncSession, gallery: Gallery) -> None:
    """Delete a gallery with all its people and faces."""
    deleted = await session.execute(delete(tables.gallery).where(_is(gallery)).returning(tables.gallery.c.id))
    if deleted.one_or_none() is None:
        raise NotFound(f"there is no gallery named {gallery.name!r}")


async def delete_empty_gallery(session: AsyncSession, gallery: Gallery) -> None:
    """Delete the gallery if it has no people; else, or if it is gone already, do nothing.

    The row is locked before the people are counted, so nobody can add a person in between.
    """
    locked = select(tables.gallery.c.id).where(_is(gallery)).with_for_update()
    if (await session.execute(locked)).one_or_none() is None:
        return
    people = tables.person.c
    in_gallery = exists().where(people.tenant_id == gallery.tenant_id, people.gallery_id == gallery.id)
    await session.execute(delete(tables.gallery).where(_is(gallery), ~in_gallery))


async def gallery_counts(session: AsyncSession, gallery: Gallery) -> GalleryCounts:
    """The gallery's current counters."""
    size = tables.gallery_size.c
    total = select(func.coalesce(func.sum(size.people), 0), func.coalesce(func.sum(size.faces), 0))
    row = (
        await session.execute(total.where(size.tenant_id == tenant_of(session), size.gallery_id == gallery.id))
    ).one()
    return GalleryCounts(int(row[0]), int(row[1]))


async def record_change(session: AsyncSession, gallery_id: int, change: SizeChange) -> None:
    """Change the gallery's counters in the session's transaction, and check the tenant's quotas at its commit."""
    if change == SizeChange():
        return
    if max(change.people, change.faces, change.bytes) > 0:
        check_at_commit(session, gallery_id)
    values = {"tenant": tenant_of(session), "gallery": gallery_id, "slot": new_identifier()} | asdict(change)
    await session.execute(_ADD_TO_COUNTERS, values)


def _is(gallery: Gallery) -> ColumnElement[bool]:
    return (tables.gallery.c.tenant_id == gallery.tenant_id) & (tables.gallery.c.id == gallery.id)


_IS_LASTING = tables.gallery.c.expires_at.is_(None)


def space_columns(space: EmbeddingSpace) -> dict[str, Any]:
    """Columns of a gallery's row that describe its embedding space."""
    return {
        "embedding_space": space.name,
        "embedding_space_digest": space.digest,
        "dimension": space.dimension,
        "metric": space.metric,
        "default_threshold": space.threshold,
    }


def with_counts(wanted: ColumnElement[bool], tenant_id: int) -> Select[Any]:
    """Select the tenant's galleries that satisfy `wanted`, with their counters."""
    size = tables.gallery_size.c
    sums = [func.coalesce(func.sum(size[name]), 0).label(name) for name in ("people", "faces", "templates")]
    counted = (
        select(*sums).where(size.tenant_id == tenant_id, size.gallery_id == tables.gallery.c.id).lateral("counted")
    )
    return select(tables.gallery, counted).where(tables.gallery.c.tenant_id == tenant_id, wanted)


def gallery_of(row: GalleryRow | Row[Any], *, is_new: bool = False) -> Gallery:
    """The gallery in a row of `with_counts`, or in a row that was just inserted."""
    space = EmbeddingSpace(
        row.embedding_space, row.embedding_space_digest, row.dimension, row.metric, _short(row.default_threshold)
    )
    own = None if row.threshold is None else _short(row.threshold)
    counts = (0, 0, 0) if is_new else (int(row.people), int(row.faces), int(row.templates))
    return Gallery(row.tenant_id, row.id, row.name, space, own, row.created_at, row.verification_only, *counts)


def _short(stored: float) -> float:
    """A stored `real` as the short decimal number that it was made from: 0.4, not 0.4000000059604645."""
    return float(f"{stored:.7g}")


def _check_threshold(threshold: float | None) -> float | None:
    if threshold is not None and not (math.isfinite(threshold) and 0.0 <= threshold <= 1.0):
        raise InvalidRequest("threshold: must be a similarity from 0 to 1")
    # rounded as PostgreSQL stores it; a number too small for `real` becomes 0
    return None if threshold is None else float(np.float32(threshold))
