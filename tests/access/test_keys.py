"""A tenant's keys: what they may do, how they are rotated, and when they end."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.access import keys
from service.access.authentication import Caller, admit
from service.access.key_format import new_key
from service.access.keys import (
    LATEST_EXPIRY,
    KeyRequest,
    create_key,
    create_key_as,
    find_key,
    list_keys,
    revoke_key,
    rotate_key,
)
from service.access.names import SCOPES
from service.access.quotas import RateLimits
from service.access.tables import api_key
from service.database.connection import Database
from service.database.identifiers import from_text, to_text
from service.database.session import tenant_of, tenant_session
from service.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthenticated
from service.http.callers import check_gallery
from tests.gallery.locks import until_blocked


async def is_live(database: Database, key: str) -> bool:
    try:
        await admit(database.engine, key)
    except Unauthenticated:
        return False
    return True


async def test_a_fresh_key_names_its_tenant_scopes_and_galleries(
    database: Database, session: AsyncSession, tenant_id: int
) -> None:
    summary, key = await create_key(session, "door", ["recognize", "read"], ["staff"])
    await session.commit()
    caller = await admit(database.engine, key)
    assert (caller.tenant_id, caller.scopes) == (tenant_id, frozenset({"recognize", "read"}))
    assert caller.galleries == frozenset({"staff"})
    assert summary.last_used_at is None
    assert (await find_key(session, summary.id)).last_used_at is not None


async def test_a_key_has_all_scopes_but_probe_and_all_galleries_by_default(session: AsyncSession) -> None:
    summary, _ = await create_key(session, "first")
    assert set(summary.scopes) == set(SCOPES) - {"probe"}
    assert summary.galleries is None


async def test_the_key_itself_is_not_stored(session: AsyncSession) -> None:
    _, key = await create_key(session, "door")
    row = (await session.execute(select(api_key))).one()
    assert key not in str(row)
    assert key.encode() not in bytes(row.digest)


async def test_a_revoked_key_is_refused_at_once(database: Database, session: AsyncSession) -> None:
    summary, key = await create_key(session, "door")
    await session.commit()
    assert await is_live(database, key)
    revoked = await revoke_key(session, summary.id)
    await session.commit()
    assert not await is_live(database, key)
    assert (await revoke_key(session, summary.id)).revoked_at == revoked.revoked_at


async def test_a_key_that_was_never_made_is_refused(database: Database, tenant_id: int) -> None:
    assert not await is_live(database, new_key(tenant_id))


async def test_a_key_ends_when_it_expires(database: Database, session: AsyncSession) -> None:
    summary, key = await create_key(session, "guest", expires_at=datetime.now(UTC) + timedelta(hours=1))
    await session.commit()
    assert await is_live(database, key)
    await session.execute(update(api_key).values(expires_at=datetime.now(UTC)))
    await session.commit()
    assert not await is_live(database, key)
    with pytest.raises(Conflict, match="expired or was revoked"):
        await rotate_key(session, summary.id)


@pytest.mark.parametrize(
    ("moment", "complaint"),
    [(datetime.now(UTC) - timedelta(seconds=1), "past"), (datetime(2999, 1, 1), "time zone")],
)
async def test_a_key_must_expire_in_the_future(session: AsyncSession, moment: datetime, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        await create_key(session, "door", expires_at=moment)


async def test_both_keys_are_live_during_a_rotation(database: Database, session: AsyncSession) -> None:
    old, old_key = await create_key(session, "door", ["recognize"], ["staff"], rates=RateLimits(60, 6))
    new, new_key_text = await rotate_key(session, old.id, timedelta(hours=1))
    await session.commit()
    assert await is_live(database, old_key)
    assert await is_live(database, new_key_text)
    assert (new.name, new.scopes, new.galleries, new.expires_at) == ("door", ["recognize"], ["staff"], None)
    assert (new.requests_per_minute, new.inferences_per_minute) == (60, 6)
    ends = (await find_key(session, old.id)).expires_at
    assert ends is not None
    assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(hours=1)


async def test_a_key_rotated_without_grace_ends_at_once(database: Database, session: AsyncSession) -> None:
    old, old_key = await create_key(session, "door")
    await rotate_key(session, old.id, timedelta(0))
    await session.commit()
    assert not await is_live(database, old_key)


async def test_a_successor_has_the_lifetime_of_the_old_key(session: AsyncSession) -> None:
    old, _ = await create_key(session, "door", expires_at=datetime.now(UTC) + timedelta(days=30))
    new, _ = await rotate_key(session, old.id)
    assert old.expires_at is not None
    assert new.expires_at is not None
    assert abs(new.expires_at - old.expires_at) < timedelta(minutes=1)


@pytest.mark.parametrize("grace", [timedelta(seconds=-1), timedelta(days=91)])
async def test_a_grace_period_is_neither_negative_nor_unlimited(session: AsyncSession, grace: timedelta) -> None:
    old, _ = await create_key(session, "door")
    with pytest.raises(InvalidRequest, match="grace"):
        await rotate_key(session, old.id, grace)


async def test_another_tenant_does_not_find_the_key(session: AsyncSession, other_session: AsyncSession) -> None:
    summary, _ = await create_key(session, "door")
    await session.commit()
    assert (await list_keys(other_session)).items == []
    for attempt in (revoke_key, rotate_key, find_key):
        with pytest.raises(NotFound):
            await attempt(other_session, summary.id)


async def creator(session: AsyncSession, rates: RateLimits | None = None) -> Caller:
    """The caller of a key for the gallery staff."""
    scopes = ["admin", "read"]
    summary, _ = await create_key(session, "creator", scopes, ["staff"], rates=rates)
    number = from_text(summary.id)
    assert number is not None
    return Caller(tenant_of(session), number, frozenset(scopes), frozenset({"staff"}), rates or RateLimits())


async def test_a_key_made_with_a_key_has_at_most_what_its_creator_has(session: AsyncSession) -> None:
    summary, _ = await create_key_as(session, await creator(session, RateLimits(60, None)), KeyRequest("child"))
    assert (summary.scopes, summary.galleries) == (["admin", "read"], ["staff"])
    assert (summary.requests_per_minute, summary.inferences_per_minute) == (60, None)
    wide = KeyRequest("child", ["read"], ["staff"], rates=RateLimits(1000, 5))
    summary, _ = await create_key_as(session, await creator(session, RateLimits(60, None)), wide)
    assert (summary.requests_per_minute, summary.inferences_per_minute) == (60, 5)


@pytest.mark.parametrize(
    "request_", [KeyRequest("child", ["export"]), KeyRequest("child", ["read"], ["staff", "guests"])]
)
async def test_a_key_gives_no_more_than_its_creator_has(session: AsyncSession, request_: KeyRequest) -> None:
    with pytest.raises(Forbidden):
        await create_key_as(session, await creator(session), request_)


async def test_a_narrow_key_cannot_be_rotated_into_a_wider_one(session: AsyncSession) -> None:
    powerful, _ = await create_key(session, "everything")
    with pytest.raises(Forbidden):
        await rotate_key(session, powerful.id, creator=await creator(session))


@pytest.mark.parametrize("galleries", [[], [""], ["a\0b"], ["x"] * 1001])
async def test_a_key_is_limited_to_valid_names_of_galleries(session: AsyncSession, galleries: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="galleries"):
        await create_key(session, "door", galleries=galleries)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201])
async def test_a_key_has_a_printable_name(session: AsyncSession, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        await create_key(session, name)


async def test_an_unknown_scope_is_refused(session: AsyncSession) -> None:
    with pytest.raises(InvalidRequest, match="unknown scope 'everything'"):
        await create_key(session, "door", ["everything"])


async def test_a_grace_period_never_prolongs_a_key(session: AsyncSession) -> None:
    old, _ = await create_key(session, "guest", expires_at=datetime.now(UTC) + timedelta(hours=1))
    await rotate_key(session, old.id, timedelta(days=1))
    assert (await find_key(session, old.id)).expires_at == old.expires_at


async def test_a_successor_has_the_whole_lifetime_of_a_key_that_has_lived_a_while(session: AsyncSession) -> None:
    old, _ = await create_key(session, "door", expires_at=datetime.now(UTC) + timedelta(days=10))
    await session.execute(update(api_key).values(created_at=old.created_at - timedelta(days=20)))
    new, _ = await rotate_key(session, old.id)
    assert old.expires_at is not None
    assert new.expires_at is not None
    assert new.expires_at >= old.expires_at + timedelta(days=20)


async def test_a_key_limited_to_galleries_cannot_rotate_a_key_for_all_galleries(session: AsyncSession) -> None:
    unlimited, _ = await create_key(session, "all galleries", ["admin", "read"])
    with pytest.raises(Forbidden, match="gallery"):
        await rotate_key(session, unlimited.id, creator=await creator(session))


async def test_a_key_made_with_a_key_inherits_its_rates(database: Database, session: AsyncSession) -> None:
    _, key = await create_key(session, "parent", rates=RateLimits(60, 6))
    await session.commit()
    child, _ = await create_key_as(session, await admit(database.engine, key), KeyRequest("child"))
    assert (child.requests_per_minute, child.inferences_per_minute) == (60, 6)


async def caller_with(database: Database, session: AsyncSession, **wanted: object) -> Caller:
    """A caller with a new key of all scopes that may make keys."""
    _, key = await create_key(session, "manager", **wanted)  # type: ignore[arg-type]
    await session.commit()
    return await admit(database.engine, key)


async def test_a_key_ends_with_the_key_that_made_it(database: Database, session: AsyncSession) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    manager = await caller_with(database, session, expires_at=ends)
    for wanted in (None, ends + timedelta(days=1)):
        made, _ = await create_key_as(session, manager, KeyRequest("door", expires_at=wanted))
        assert made.expires_at == ends
    earlier = ends - timedelta(minutes=30)
    made, _ = await create_key_as(session, manager, KeyRequest("guest", expires_at=earlier))
    assert made.expires_at == earlier
    renewed, _ = await rotate_key(session, made.id, creator=manager)
    assert renewed.expires_at is not None
    assert renewed.expires_at <= ends


async def test_revoking_a_key_revokes_every_key_that_descends_from_it(
    database: Database, session: AsyncSession
) -> None:
    manager = await caller_with(database, session)
    _, child_key = await create_key_as(session, manager, KeyRequest("child"))
    await session.commit()
    child = await admit(database.engine, child_key)
    _, grandchild_key = await create_key_as(session, child, KeyRequest("grandchild"))
    _, other_key = await create_key(session, "other")
    await session.commit()
    revoked = await revoke_key(session, to_text(manager.key_id))
    await session.commit()
    assert revoked.created_by is None
    lives = [await is_live(database, key) for key in (child_key, grandchild_key, other_key)]
    assert lives == [False, False, True]
    with pytest.raises(Forbidden, match="was revoked"):  # a request that began before the revocation
        await create_key_as(session, child, KeyRequest("late"))


async def test_a_rotated_key_hands_its_keys_over_to_its_successor(database: Database, session: AsyncSession) -> None:
    manager = await caller_with(database, session)
    made, key = await create_key_as(session, manager, KeyRequest("door"))
    assert made.created_by == to_text(manager.key_id)
    successor, _ = await rotate_key(session, to_text(manager.key_id), timedelta(0))
    await session.commit()
    assert await is_live(database, key)
    assert (await find_key(session, made.id)).created_by == successor.id
    await revoke_key(session, successor.id)
    await session.commit()
    assert not await is_live(database, key)


async def test_a_revocation_waits_for_a_key_that_is_being_made(database: Database, session: AsyncSession) -> None:
    manager = await caller_with(database, session)
    async with tenant_session(database.engine, manager.tenant_id) as other:
        _, key = await create_key_as(other, manager, KeyRequest("being made"))
        revoking = asyncio.create_task(revoke_key(session, to_text(manager.key_id)))
        await until_blocked(other, revoking)
        await other.commit()
        await revoking
        await session.commit()
    assert not await is_live(database, key)


async def test_a_tenant_has_a_bounded_number_of_live_keys(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MAXIMUM_LIVE_KEYS", 2)
    first, _ = await create_key(session, "first")
    await create_key(session, "second")
    with pytest.raises(Conflict, match="at most 2 live keys"):
        await create_key(session, "third")
    await revoke_key(session, first.id)
    await create_key(session, "third")


async def test_a_key_for_a_gallery_opens_it_in_every_spelling(session: AsyncSession) -> None:
    made, _ = await create_key(session, "door", galleries=["Cafe\u0301 "])
    assert made.galleries == ["Caf\u00e9"]
    limited = replace(await creator(session), galleries=frozenset({"Caf\u00e9"}))
    check_gallery(limited, " Cafe\u0301")
    again, _ = await create_key_as(session, limited, KeyRequest("door", ["read"], [" Cafe\u0301"]))
    assert again.galleries == ["Caf\u00e9"]
    with pytest.raises(NotFound):
        check_gallery(limited, "Cafe")


async def test_the_successor_of_a_key_for_ages_is_a_key_for_ages(session: AsyncSession) -> None:
    made, _ = await create_key(session, "door", expires_at=LATEST_EXPIRY)
    await session.execute(update(api_key).values(created_at=datetime(2020, 1, 1, tzinfo=UTC)))
    successor, _ = await rotate_key(session, made.id)
    assert successor.expires_at == LATEST_EXPIRY


async def test_a_key_cannot_expire_after_the_latest_time(session: AsyncSession) -> None:
    with pytest.raises(InvalidRequest, match="too late"):
        await create_key(session, "door", expires_at=LATEST_EXPIRY + timedelta(seconds=1))


async def test_the_names_of_galleries_of_a_key_are_bounded(session: AsyncSession) -> None:
    for galleries in (["x" * 201], [f"{number:0200}" for number in range(251)]):
        with pytest.raises(InvalidRequest, match="characters"):
            await create_key(session, "wide", galleries=galleries)
    await create_key(session, "wide", galleries=[f"{number:0200}" for number in range(250)])


async def test_keys_are_listed_in_pages(session: AsyncSession) -> None:
    made = [(await create_key(session, f"key {number}"))[0].id for number in range(5)]
    listed: list[str] = []
    cursor = None
    while True:
        page = await list_keys(session, 2, cursor)
        assert len(page.items) <= 2
        listed += [key.id for key in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert listed == made
