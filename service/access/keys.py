"""API keys: making, listing, rotating and revoking the keys of a tenant, and those of the platform operator.

A key never gives more than its creator has. An operator key gives access to tenants, quotas and usage, and never to a
tenant's data. `_KeyRows` stores, finds, rotates and revokes keys of both kinds.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, Table, func, insert, select, true, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from service.access.authentication import Caller
from service.access.key_format import digest_of, hint_of, new_key, new_operator_key
from service.access.limits import LONGEST_GRACE
from service.access.names import DEFAULT_SCOPES, MAXIMUM_NAME_LENGTH, PROBE, check_name, check_scopes
from service.access.operator import act_as_operator
from service.access.quotas import RateLimits, narrower
from service.access.tables import api_key, operator_key
from service.database.identifiers import from_text, new_identifier, to_text
from service.database.names import canonical_name, may_be_stored
from service.database.pagination import Cursor, Page, check_limit
from service.database.session import tenant_of
from service.errors import Conflict, ExpiresInThePast, Forbidden, InvalidRequest, NotFound, Unauthenticated

GRACE = timedelta(days=1)
MAXIMUM_GALLERIES = 1000
MAXIMUM_GALLERIES_LENGTH = 50_000
"""Characters of all names of galleries of one key."""
MAXIMUM_LIVE_KEYS = 1000
"""Live keys of a tenant. A program that makes keys without end must not fill the table and the lists."""
LATEST_EXPIRY = datetime(9999, 1, 1, tzinfo=UTC)
"""The end of the times that Python can show is less than a year later, and time zones and lifetimes are added."""


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
    created_by: str | None
    """Id of the key that made this one. None: a command made it."""


@dataclass(frozen=True)
class OperatorKeySummary:
    """An operator key in a list: everything except the key itself."""

    id: str
    name: str
    hint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class KeyRequest:
    """Request for a new key. `scopes` None: all but `probe`; `galleries` None: all; `expires_at` None: never."""

    name: str
    scopes: list[str] | None = None
    galleries: list[str] | None = None
    expires_at: datetime | None = None
    rates: RateLimits = field(default_factory=RateLimits)


Summary = TypeVar("Summary", KeySummary, OperatorKeySummary)


@dataclass(frozen=True)
class _KeyRows(Generic[Summary]):
    """The stored keys of one tenant, or of the operator."""

    connection: AsyncSession | AsyncConnection
    table: Table
    is_visible: ColumnElement[bool]
    kind: type[Summary]
    noun: str
    """The name of the kind in errors."""

    async def insert(self, name: str, key: str, expires_at: datetime | None, **columns: object) -> Summary:
        """Store a new key. Raises InvalidRequest if the name or the expiry time is not allowed."""
        check_name(name)
        _check_expiry(expires_at)
        values = {"id": new_identifier(), "name": name, "hint": hint_of(key), "digest": digest_of(key)}
        statement = insert(self.table).values(**values, expires_at=expires_at, **columns).returning(*self._columns())
        return self._summary((await self.connection.execute(statement)).mappings().one())

    async def list_page(self, cursors: Cursor, limit: int, cursor: str | None) -> Page[Summary]:
        """One page of the keys, oldest first."""
        wanted = self.is_visible & (self.table.c.id > cursors.after(cursor))
        statement = select(*self._columns()).where(wanted).order_by(self.table.c.id).limit(check_limit(limit) + 1)
        rows = (await self.connection.execute(statement)).mappings().all()
        return cursors.page([self._summary(row) for row in rows], [row["id"] for row in rows], limit)

    async def find(self, key_id: str) -> Summary:
        """One key. Raises NotFound if there is no such key."""
        statement = select(*self._columns()).where(self.is_visible, self.table.c.id == from_text(key_id))
        return self._found((await self.connection.execute(statement)).mappings().one_or_none(), key_id)

    async def lock(self, key_id: int) -> Summary:
        """One key, which nobody can revoke until the transaction ends. Raises NotFound if there is no such key."""
        statement = select(*self._columns()).where(self.is_visible, self.table.c.id == key_id)
        row = (await self.connection.execute(statement.with_for_update(read=True))).mappings().one_or_none()
        return self._found(row, to_text(key_id))

    async def revoke(self, key_id: str) -> Summary:
        """Revoke a key. A key that is revoked already keeps its time."""
        return await self._change(key_id, revoked_at=func.coalesce(self.table.c.revoked_at, func.now()))

    async def expire_after(self, key_id: str, grace: timedelta) -> None:
        """Let a key expire after `grace`, or at its own earlier time."""
        await self._change(key_id, expires_at=func.least(self.table.c.expires_at, datetime.now(UTC) + grace))

    async def find_rotatable(self, key_id: str, grace: timedelta) -> tuple[Summary, datetime | None]:
        """A key that may get a successor, and the expiry time of the successor, which lives as long as the key was made
        for. Raises InvalidRequest for a grace period that is not allowed, Conflict if the key is not live.
        """
        if not timedelta(0) <= grace <= LONGEST_GRACE:
            raise InvalidRequest(f"the grace period is at most {LONGEST_GRACE.days} days")
        key, now = await self.find(key_id), datetime.now(UTC)
        if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
            raise Conflict(f"the {self.noun} {key_id!r} has expired or was revoked; make a new one")
        return key, None if key.expires_at is None else _later(now, key.expires_at - key.created_at)

    async def _change(self, key_id: str, **values: object) -> Summary:
        statement = update(self.table).where(self.is_visible, self.table.c.id == from_text(key_id)).values(values)
        result = await self.connection.execute(statement.returning(*self._columns()))
        return self._found(result.mappings().one_or_none(), key_id)

    def _found(self, row: RowMapping | None, key_id: str) -> Summary:
        if row is None:
            raise NotFound(f"there is no {self.noun} {key_id!r}")
        return self._summary(row)

    def _columns(self) -> list[ColumnElement[object]]:
        return [column for column in self.table.c if column.name not in {"tenant_id", "digest"}]

    def _summary(self, row: RowMapping) -> Summary:
        identifiers = {name: to_text(row[name]) for name in ("id", "created_by") if row.get(name) is not None}
        return self.kind(**{**row, **identifiers})


def _tenant_keys(session: AsyncSession) -> _KeyRows[KeySummary]:
    return _KeyRows(session, api_key, api_key.c.tenant_id == tenant_of(session), KeySummary, "key")


async def _operator_keys(connection: AsyncConnection) -> _KeyRows[OperatorKeySummary]:
    await act_as_operator(connection)
    return _KeyRows(connection, operator_key, true(), OperatorKeySummary, "operator key")


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
    request = KeyRequest(name, scopes, _canonical_names(galleries), expires_at, rates or RateLimits())
    return await _insert(session, request)


async def create_key_as(session: AsyncSession, creator: Caller, request: KeyRequest) -> tuple[KeySummary, str]:
    """Make a key on behalf of a caller. It lives no longer than the caller's key.

    Raises Forbidden if it would give more than the caller's key has, or if that key was revoked meanwhile.
    """
    parent = await _lock_creator(session, creator)
    scopes = check_scopes(request.scopes) if request.scopes is not None else sorted(creator.scopes - {PROBE})
    galleries = _canonical_names(request.galleries)
    if galleries is None and creator.galleries is not None:
        galleries = sorted(creator.galleries)
    _check_gives_no_more(creator, scopes, galleries)
    rates = narrower(request.rates, creator.rates)
    expires_at = _earlier(request.expires_at, parent.expires_at)
    return await _insert(session, KeyRequest(request.name, scopes, galleries, expires_at, rates), creator.key_id)


async def list_keys(session: AsyncSession, limit: int = 100, cursor: str | None = None) -> Page[KeySummary]:
    """The keys of the session's tenant, oldest first."""
    return await _tenant_keys(session).list_page(Cursor("keys", tenant_of(session)), limit, cursor)


async def find_key(session: AsyncSession, key_id: str) -> KeySummary:
    """One key of the session's tenant. Raises NotFound if there is no such key."""
    return await _tenant_keys(session).find(key_id)


async def rotate_key(
    session: AsyncSession, key_id: str, grace: timedelta = GRACE, creator: Caller | None = None
) -> tuple[KeySummary, str]:
    """Make a successor of a key, and let the old key expire after `grace`. Until then both are live.

    The successor has the rights of the old key, for as long a lifetime as the old key had, but no longer than the key
    that made the old key. The keys that the old key made belong to the successor.
    """
    keys = _tenant_keys(session)
    old, expires_at = await keys.find_rotatable(key_id, grace)
    if creator is not None:
        await _lock_creator(session, creator)
        _check_gives_no_more(creator, old.scopes, old.galleries)
    parent = None if old.created_by is None else from_text(old.created_by)
    if parent is not None:
        expires_at = _earlier(expires_at, (await keys.lock(parent)).expires_at)
    rates = RateLimits(old.requests_per_minute, old.inferences_per_minute)
    made = await _insert(session, KeyRequest(old.name, old.scopes, old.galleries, expires_at, rates), parent)
    await keys.expire_after(key_id, grace)
    await _hand_over(session, key_id, made[0].id)
    return made


async def revoke_key(session: AsyncSession, key_id: str) -> KeySummary:
    """Revoke a key and every key that descends from it. The next request with one of them is refused."""
    revoked = await _tenant_keys(session).revoke(key_id)
    await _revoke_descendants(session, key_id)
    return revoked


async def check_not_revoked(session: AsyncSession, key_id: int, *, until_commit: bool = False) -> None:
    """Raises Unauthenticated if the key was revoked after its request had begun.

    `until_commit`: a revocation waits until the transaction ends. Requests with the key may wait too, so ask it last.
    """
    keys = _tenant_keys(session)
    key = await (keys.lock(key_id) if until_commit else keys.find(to_text(key_id)))
    if key.revoked_at is not None:
        raise Unauthenticated("the API key was revoked meanwhile")


async def create_operator_key(
    connection: AsyncConnection, name: str, expires_at: datetime | None = None
) -> tuple[OperatorKeySummary, str]:
    """Make an operator key. The second value is the key itself, to be shown once."""
    key = new_operator_key()
    return await (await _operator_keys(connection)).insert(name, key, expires_at), key


async def list_operator_keys(
    connection: AsyncConnection, limit: int = 100, cursor: str | None = None
) -> Page[OperatorKeySummary]:
    """The operator keys, oldest first."""
    return await (await _operator_keys(connection)).list_page(Cursor("operator keys"), limit, cursor)


async def rotate_operator_key(
    connection: AsyncConnection, key_id: str, grace: timedelta = GRACE
) -> tuple[OperatorKeySummary, str]:
    """Make a successor of a key, and let the old key expire after `grace`. Until then both are live."""
    keys = await _operator_keys(connection)
    old, expires_at = await keys.find_rotatable(key_id, grace)
    made = await create_operator_key(connection, old.name, expires_at)
    await keys.expire_after(key_id, grace)
    return made


async def revoke_operator_key(connection: AsyncConnection, key_id: str) -> OperatorKeySummary:
    """Revoke an operator key. The next request with it is refused."""
    return await (await _operator_keys(connection)).revoke(key_id)


async def _lock_creator(session: AsyncSession, creator: Caller) -> KeySummary:
    """The creator's key. A revocation of it waits for this transaction, and then finds the key that this one makes."""
    key = await _tenant_keys(session).lock(creator.key_id)
    if key.revoked_at is not None:
        raise Forbidden("the key that makes this key was revoked")
    return key


async def _revoke_descendants(session: AsyncSession, key_id: str) -> None:
    """Revoke the keys that the key made, then the keys that those made, and so on.

    Each generation is read after its parents are locked, so that no key which is being made is missed.
    """
    generation = [from_text(key_id)]
    while generation:
        children = api_key.c.tenant_id == tenant_of(session), api_key.c.created_by.in_(generation)
        revoked = func.coalesce(api_key.c.revoked_at, func.now())
        statement = update(api_key).where(*children).values(revoked_at=revoked).returning(api_key.c.id)
        generation = list((await session.execute(statement)).scalars())


async def _hand_over(session: AsyncSession, old_id: str, new_id: str) -> None:
    children = api_key.c.tenant_id == tenant_of(session), api_key.c.created_by == from_text(old_id)
    await session.execute(update(api_key).where(*children).values(created_by=from_text(new_id)))


def _earlier(first: datetime | None, second: datetime | None) -> datetime | None:
    """The earlier of two times of expiry. None: never."""
    return min((moment for moment in (first, second) if moment is not None), default=None)


async def _insert(session: AsyncSession, request: KeyRequest, created_by: int | None = None) -> tuple[KeySummary, str]:
    await _check_number(session)
    key = new_key(tenant_of(session))
    scopes = check_scopes(request.scopes if request.scopes is not None else DEFAULT_SCOPES)
    summary = await _tenant_keys(session).insert(
        request.name,
        key,
        request.expires_at,
        tenant_id=tenant_of(session),
        created_by=created_by,
        scopes=scopes,
        galleries=_check_galleries(request.galleries),
        **request.rates.as_columns(),
    )
    return summary, key


async def _check_number(session: AsyncSession) -> None:
    """Raises Conflict if the tenant has as many live keys as it may have."""
    is_live = api_key.c.revoked_at.is_(None), func.coalesce(api_key.c.expires_at > func.now(), true())
    statement = select(func.count()).where(api_key.c.tenant_id == tenant_of(session), *is_live)
    if (await session.scalar(statement) or 0) >= MAXIMUM_LIVE_KEYS:
        raise Conflict(f"a tenant has at most {MAXIMUM_LIVE_KEYS:,} live keys; revoke those that are no longer used")


def _later(moment: datetime, lifetime: timedelta) -> datetime:
    return moment + lifetime if lifetime < LATEST_EXPIRY - moment else LATEST_EXPIRY


def _check_expiry(expires_at: datetime | None) -> None:
    """Raises InvalidRequest for a time that has passed, is too far away or has no time zone."""
    if expires_at is None:
        return
    if expires_at.tzinfo is None:
        raise InvalidRequest("expires_at needs a time zone, such as 2030-01-31T00:00:00Z")
    if expires_at <= datetime.now(UTC):
        raise ExpiresInThePast("expires_at is in the past")
    if expires_at > LATEST_EXPIRY:
        raise InvalidRequest("expires_at is too late: the latest is 9999-01-01T00:00:00Z; null is never")


def _canonical_names(galleries: list[str] | None) -> list[str] | None:
    return None if galleries is None else [canonical_name(name) for name in galleries]


def _check_galleries(galleries: list[str] | None) -> list[str] | None:
    if galleries is None:
        return None
    if not 1 <= len(galleries) <= MAXIMUM_GALLERIES or any(not name or not may_be_stored(name) for name in galleries):
        raise InvalidRequest(f"galleries must be 1 to {MAXIMUM_GALLERIES} names, or null for all")
    if max(map(len, galleries)) > MAXIMUM_NAME_LENGTH or sum(map(len, galleries)) > MAXIMUM_GALLERIES_LENGTH:
        raise InvalidRequest(
            f"galleries: a name has at most {MAXIMUM_NAME_LENGTH} characters, and all names of a key together at most "
            f"{MAXIMUM_GALLERIES_LENGTH}"
        )
    return sorted(set(galleries))


def _check_gives_no_more(creator: Caller, scopes: list[str], galleries: list[str] | None) -> None:
    # A key that exports every reference learns nothing new from probes.
    may_give = creator.scopes | ({PROBE} if "export" in creator.scopes else set())
    more = sorted(set(scopes) - may_give)
    if more:
        raise Forbidden(f"a key cannot give a scope that its creator lacks: {more[0]!r}")
    if creator.galleries is not None and (galleries is None or not set(galleries) <= creator.galleries):
        raise Forbidden("a key cannot reach a gallery that its creator cannot reach")
