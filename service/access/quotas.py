"""Rate limits, quotas, and the usage that they limit. They are stored in the database, so they hold across all server
processes.
"""

from dataclasses import asdict, dataclass, fields
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.limits import LARGEST_COUNT, LARGEST_RATE
from service.database.session import tenant_of
from service.errors import InvalidRequest
from service.settings import Settings

CostClass = Literal["request", "inference"]
"""Cost class of a request: `inference` runs a model on images, `request` is everything else. A big search counts in
both classes, with its units beyond the first.
"""

_SELECT_USAGE = text("""
    SELECT (SELECT count(*) FROM gallery WHERE tenant_id = :tenant AND expires_at IS NULL) AS galleries,
        coalesce(sum(people), 0) AS people, coalesce(sum(faces), 0) AS faces, stored_bytes_v1(:tenant) AS stored_bytes
    FROM gallery_size WHERE tenant_id = :tenant
""")


@dataclass(frozen=True)
class RateLimits:
    """Requests of each cost class per minute. None: no limit."""

    requests_per_minute: int | None = None
    inferences_per_minute: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value, largest = getattr(self, field.name), LARGEST_RATE if "per_minute" in field.name else LARGEST_COUNT
            if value is not None and not 1 <= value <= largest:
                raise InvalidRequest(f"{field.name} must be a number from 1 to {largest}, or null for no limit")

    def as_columns(self) -> dict[str, int | None]:
        """The limits by the names of their columns."""
        return asdict(self)


@dataclass(frozen=True)
class Quotas(RateLimits):
    """Limits of a tenant: rates, and stored amounts. None: no limit."""

    maximum_galleries: int | None = None
    maximum_faces_per_gallery: int | None = None
    """Limits the people of a gallery, too."""
    maximum_stored_bytes: int | None = None


def quotas_of_new_tenants(settings: Settings) -> Quotas:
    """The quotas that the settings give to a new tenant."""
    return Quotas(
        requests_per_minute=settings.tenant_requests_per_minute or None,
        inferences_per_minute=settings.tenant_inferences_per_minute or None,
        maximum_galleries=settings.tenant_maximum_galleries or None,
        maximum_faces_per_gallery=settings.tenant_maximum_faces_per_gallery or None,
        maximum_stored_bytes=settings.tenant_maximum_stored_bytes or None,
    )


def narrower(own: RateLimits, creator: RateLimits) -> RateLimits:
    """The limits of a key made with another key: never wider than those of its creator."""
    pairs = [(getattr(own, field.name), getattr(creator, field.name)) for field in fields(RateLimits)]
    return RateLimits(*(min((value for value in pair if value is not None), default=None) for pair in pairs))


@dataclass(frozen=True)
class Usage:
    """Stored amounts of a tenant. Bytes count references, names, metadata and waiting imports."""

    galleries: int
    people: int
    faces: int
    stored_bytes: int


async def read_usage(session: AsyncSession) -> Usage:
    """Current usage of the session's tenant."""
    row = (await session.execute(_SELECT_USAGE, {"tenant": tenant_of(session)})).one()
    return Usage(**{name: int(value) for name, value in row._mapping.items()})
