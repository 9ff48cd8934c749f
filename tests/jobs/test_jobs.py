"""Jobs as their tenants see them."""

import io
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.identifiers import new_identifier
from service.errors import InvalidCursor, InvalidRequest, NotFound
from service.jobs.inputs import PIECE_BYTES, store_input, write_input
from service.jobs.jobs import (
    begin_attempt,
    claim_job,
    create_job,
    delete_finished_jobs,
    fail_job,
    find_job,
    finish_job,
    list_jobs,
    record_progress,
    take_back_attempt,
)


async def queued(session: AsyncSession) -> int:
    """The number of queue entries of the session's tenant."""
    query = "SELECT count(*) FROM procrastinate_jobs WHERE (args->>'tenant_id')::int = :tenant"
    return int(await session.scalar(text(query), {"tenant": session.info["tenant_id"]}) or 0)


async def test_a_job_enters_the_queue_with_the_commit_of_its_row(session: AsyncSession) -> None:
    job = await create_job(session, "nothing", {})
    await session.rollback()
    assert await queued(session) == 0
    with pytest.raises(NotFound):
        await find_job(session, job.id)
    await session.rollback()

    job = await create_job(session, "nothing", {"a": 1})
    await session.commit()
    stored = await find_job(session, job.id)
    assert (stored.status, stored.arguments, stored.done, stored.total) == ("queued", {"a": 1}, 0, None)
    assert await queued(session) == 1


@pytest.mark.parametrize("wrong", ["", "nonsense", "0000000000000", "zzzzzzzzzzzzz", "07ffffffffff0", "\x00"])
async def test_an_unknown_job_id_is_not_found(session: AsyncSession, wrong: str) -> None:
    with pytest.raises(NotFound):
        await find_job(session, wrong)


async def test_another_tenants_job_is_not_found(session: AsyncSession, other_session: AsyncSession) -> None:
    job = await create_job(session, "nothing", {})
    await session.commit()
    with pytest.raises(NotFound):
        await find_job(other_session, job.id)
    assert (await list_jobs(other_session)).items == []


async def test_jobs_are_listed_newest_first_in_pages(session: AsyncSession) -> None:
    made = [(await create_job(session, "nothing", {"position": number})).id for number in range(5)]
    first = await list_jobs(session, limit=2)
    second = await list_jobs(session, limit=2, cursor=first.next_cursor)
    last = await list_jobs(session, limit=2, cursor=second.next_cursor)
    assert [job.id for page in (first, second, last) for job in page.items] == made[::-1]
    assert last.next_cursor is None


@pytest.mark.parametrize(("limit", "cursor"), [(0, None), (1001, None), (10, "nonsense"), (10, "")])
async def test_a_wrong_limit_or_cursor_is_refused(session: AsyncSession, limit: int, cursor: str | None) -> None:
    with pytest.raises(InvalidRequest):
        await list_jobs(session, limit=limit, cursor=cursor)


async def test_only_one_transaction_can_claim_a_job(session: AsyncSession, other_session: AsyncSession) -> None:
    number = new_identifier()
    assert await claim_job(session, number)
    assert not await claim_job(other_session, number)
    await session.rollback()
    assert await claim_job(other_session, number)


async def test_a_finished_job_never_changes_again(session: AsyncSession) -> None:
    job = await create_job(session, "nothing", {})
    await begin_attempt(session, job.number)
    await finish_job(session, job.number, {"faces": 3})
    await record_progress(session, job.number, 1, 2)
    await take_back_attempt(session, job.number, 1)
    await fail_job(session, job.number, NotFound("too late"))
    stored = await find_job(session, job.id)
    assert (stored.status, stored.result, stored.error, stored.attempts) == ("succeeded", {"faces": 3}, None, 1)
    assert stored.finished_at is not None


async def test_a_failed_job_says_why(session: AsyncSession) -> None:
    job = await create_job(session, "nothing", {})
    await fail_job(session, job.number, NotFound("there is no gallery named 'staff'"))
    stored = await find_job(session, job.id)
    assert stored.status == "failed"
    assert stored.error == {
        "slug": "not-found",
        "title": "The requested resource does not exist",
        "detail": "there is no gallery named 'staff'",
    }


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 2 * PIECE_BYTES + 17])
async def test_an_input_is_read_byte_for_byte_and_deleted_when_its_job_ends(session: AsyncSession, size: int) -> None:
    content = bytes(number * 31 % 251 for number in range(size))
    job = await create_job(session, "nothing", {})
    assert await store_input(session, job, io.BytesIO(content)) == size
    file = io.BytesIO()
    await write_input(session, job, file)
    assert file.getvalue() == content
    await finish_job(session, job.number, {})
    assert await session.scalar(text("SELECT count(*) FROM job_input")) == 0


async def test_a_cursor_of_another_list_is_refused(session: AsyncSession, other_session: AsyncSession) -> None:
    for owner in (session, other_session):
        for _ in range(2):
            await create_job(owner, "nothing", {})
    page = await list_jobs(session, limit=1)
    with pytest.raises(InvalidCursor, match="another list"):
        await list_jobs(other_session, limit=1, cursor=page.next_cursor)


async def test_finished_jobs_are_deleted_after_their_time_and_unfinished_ones_are_kept(session: AsyncSession) -> None:
    finished, failed, queued = [await create_job(session, "nothing", {}) for _ in range(3)]
    await finish_job(session, finished.number, {})
    await fail_job(session, failed.number, NotFound("gone"))
    assert await delete_finished_jobs(session, timedelta(days=30)) == 0
    await session.execute(text("UPDATE job SET finished_at = finished_at - interval '31 days'"))
    assert await delete_finished_jobs(session, timedelta(days=32)) == 0
    assert await delete_finished_jobs(session, timedelta(days=30)) == 2
    assert [job.number for job in (await list_jobs(session)).items] == [queued.number]
