"""API keys of a tenant: making, listing, rotating and revoking them. A key never gives more than its creator has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.access.authentication import Caller
from service.access.key_format import digest_of, hint_of, new_key
from service.access.names import check_name
from service.access.quotas import RateLimits, narrower
from service.access.scopes import SCOPES, check_scopes
from service.access.tables import api_key
from service.database.identifiers import from_text, new_identifier, to_text
from service.database.session import tenant_of
from service.errors import Conflict, ExpiresInThePast, Forbidden, InvalidRequest, NotFound

GRACE = timedelta(days=1)
LONGEST_GRACE = timedelta(days=90)
MAXIMUM_GALLERIES = 1000


@dataclass(frozen=True)
class KeySummary:
    """A key in a list: everything except the key itself."""

    id: str
    name: str
    hint: str
    scopes: list[str]
    galleries: list[str] | None
    requests_per_minute: int | None
    inferences_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class KeyRequest:
    """Request for a new key. `scopes` None: all; `galleries` None: all; `expires_at` None: never."""

    name: str
    scopes: list[str] | None = None
    galleries: list[str] | None = None
    expires_at: datetime | None = None
    rates: RateLimits = field(default_factory=RateLimits)


async def create_key(
    session: AsyncSession,
    name: str,
    scopes: list[str] | None = None,
    galleries: list[str] | None = None,
    expires_at: datetime | None = None,
    *,
    rates: RateLimits | None = None,
) -> tuple[KeySummary, str]:
    """Make a key for the session's tenant. The second value is the key itself, to be shown once."""
    return await _insert(session, KeyRequest(name, scopes, galleries, expires_at, rates or RateLimits()))


async def create_key_as(session: AsyncSession, creator: Caller, request: KeyRequest) -> tuple[KeySummary, str]:
    """Make a key on behalf of a caller. Raises Forbidden if it would give more than the caller's key has."""
    scopes = check_scopes(request.scopes) if request.scopes is not None else sorted(creator.scopes)
    galleries = request.galleries
    if galleries is None and creator.galleries is not None:
        galleries = sorted(creator.galleries)
    _check_gives_no_more(creator, scopes, galleries)
    rates = narrower(request.rates, creator.rates)
    return await _insert(session, KeyRequest(request.name, scopes, galleries, request.expires_at, rates))


async def list_keys(session: AsyncSession) -> list[KeySummary]:
    """The keys of the session's tenant, oldest first."""
    rows = await session.execute(
        select(*_SUMMARY).where(api_key.c.tenant_id == tenant_of(session)).order_by(api_key.c.id)
    )
    return [_summary(row._mapping) for row in rows]


async def find_key(session: AsyncSession, key_id: str) -> KeySummary:
    """One key of the session's tenant."""
    statement = select(*_SUMMARY).where(api_key.c.tenant_id == tenant_of(session), api_key.c.id == from_text(key_id))
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise NotFound(f"there is no key {key_id!r}")
    return _summary(row._mapping)


async def rotate_key(
    session: AsyncSession, key_id: str, grace: timedelta = GRACE, creator: Caller | None = None
) -> tuple[KeySummary, str]:
    """Make a successor of a key, and let the old key expire after `grace`. Until then both are live.

    The successor has the rights of the old key, for as long a lifetime as the old key had.
    """
    if not timedelta(0) <= grace <= LONGEST_GRACE:
        raise InvalidRequest(f"the grace period is at most {LONGEST_GRACE.days} days")
    old, now = await find_key(session, key_id), datetime.now(UTC)
    if not _is_live(old, now):
        raise Conflict(f"the key {key_id!r} has expired or was revoked; make a new one")
    if creator is not None:
        _check_gives_no_more(creator, old.scopes, old.galleries)
    expires_at = None if old.expires_at is None else now + (old.expires_at - old.created_at)
    rates = RateLimits(old.requests_per_minute, old.inferences_per_minute)
    made = await _insert(session, KeyRequest(old.name, old.scopes, old.galleries, expires_at, rates))
    await _change(session, key_id, expires_at=func.least(api_key.c.expires_at, now + grace))
    return made


async def revoke_key(session: AsyncSession, key_id: str) -> KeySummary:
    """Revoke a key. The next request with it is refused."""
    return await _change(session, key_id, revoked_at=func.coalesce(api_key.c.revoked_at, func.now()))


async def _insert(session: AsyncSession, request: KeyRequest) -> tuple[KeySummary, str]:
    check_name(request.name)
    check_expiry(request.expires_at)
    key = new_key(tenant_of(session))
    values = {
        "tenant_id": tenant_of(session),
        "id": new_identifier(),
        "name": request.name,
        "hint": hint_of(key),
        "digest": digest_of(key),
        "scopes": check_scopes(request.scopes if request.scopes is not None else list(SCOPES)),
        "galleries": _check_galleries(request.galleries),
        "expires_at": request.expires_at,
        **request.rates.as_columns(),
    }
    row = (await session.execute(insert(api_key).values(values).returning(*_SUMMARY))).one()
    return _summary(row._mapping), key


async def _change(session: AsyncSession, key_id: str, **values: object) -> KeySummary:
    statement = (
        update(api_key)
        .where(api_key.c.tenant_id == tenant_of(session), api_key.c.id == from_text(key_id))
        .values(values)
        .returning(*_SUMMARY)
    )
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise NotFound(f"there is no key {key_id!r}")
    return _summary(row._mapping)


def check_expiry(expires_at: datetime | None) -> None:
    """Raises InvalidRequest for a time that has passed or has no time zone."""
    if expires_at is None:
        return
    if expires_at.tzinfo is None:
        raise InvalidRequest("expires_at needs a time zone, such as 2030-01-31T00:00:00Z")
    if expires_at <= datetime.now(UTC):
        raise ExpiresInThePast("expires_at is in the past")


def _check_galleries(galleries: list[str] | None) -> list[str] | None:
    if galleries is None:
        return None
    if not 1 <= len(galleries) <= MAXIMUM_GALLERIES or any(not name or "\0" in name for name in galleries):
        raise InvalidRequest(f"galleries must be 1 to {MAXIMUM_GALLERIES} names, or null for all")
    return sorted(set(galleries))


def _check_gives_no_more(creator: Caller, scopes: list[str], galleries: list[str] | None) -> None:
    more = sorted(set(scopes) - creator.scopes)
    if more:
        raise Forbidden(f"a key cannot give a scope that its creator lacks: {more[0]!r}")
    if creator.galleries is not None and (galleries is None or not set(galleries) <= creator.galleries):
        raise Forbidden("a key cannot reach a gallery that its creator cannot reach")


def _is_live(key: KeySummary, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


_SUMMARY = [column for column in api_key.c if column.name not in {"tenant_id", "digest"}]


def _summary(row: Mapping[Any, Any]) -> KeySummary:
    values = dict(row)
    return KeySummary(**{**values, "id": to_text(values["id"])})
