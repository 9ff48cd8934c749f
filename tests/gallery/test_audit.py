"""The live audit counts and logs the mates that the fast plans missed, and reveals nothing about a face."""

from collections.abc import AsyncIterator

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from service.database.connection import Database, open_pool
from service.database.session import tenant_session
from service.gallery.search.search import search
from service.settings import Settings
from service.telemetry import SEARCH_AUDITED, SEARCH_MISSED, configure_logging
from tests.gallery.conftest import Case


@pytest.fixture
async def audited(database: Database, crowds: dict[str, Case]) -> AsyncIterator[AsyncSession]:
    """A session that audits every probe, with warnings logged whatever an earlier test configured."""
    configure_logging("WARNING")
    engine = open_pool(database.logins.service, 1, audit_share=1.0)
    async with tenant_session(engine, crowds["small"].gallery.tenant_id) as session:
        yield session
    await engine.dispose()


def counted(name: str) -> tuple[float, float]:
    return SEARCH_AUDITED.labels(name)._value.get(), SEARCH_MISSED.labels(name)._value.get()


async def test_an_audit_without_missed_matches_only_counts(audited: AsyncSession, crowds: dict[str, Case]) -> None:
    case = crowds["middle"]
    before = counted("people")
    with capture_logs() as logs:
        await search(audited, case.gallery, list(case.crowd.embeddings[:7]))
    assert counted("people") == (before[0] + 7, before[1])
    assert logs == []


@pytest.mark.parametrize("name", ["middle", "large"])
async def test_a_match_that_a_fast_plan_misses_is_counted_and_logged(
    audited: AsyncSession, crowds: dict[str, Case], name: str
) -> None:
    case = crowds[name]
    probe, missing = case.crowd.embeddings[0], case.crowd.names[0]
    # A damaged template, as a fault of ours would leave it: the fast plans see the person far away.
    await audited.execute(
        text("UPDATE person_template SET code = ~code WHERE person_id IN (SELECT id FROM person WHERE name = :name)"),
        {"name": missing},
    )
    before = counted("people")
    with capture_logs() as logs:
        (found,) = await search(audited, case.gallery, [probe])
    assert missing not in {candidate.name for candidate in found}
    assert counted("people") == (before[0] + 1, before[1] + 1)
    (line,) = logs
    assert (line["path"], line["missed"], line["log_level"]) == ("people", 1, "warning")
    assert missing not in str(line)
    assert not any(isinstance(value, float | np.ndarray | list) for value in line.values())


async def test_only_the_configured_share_of_probes_is_audited(crowded: AsyncSession, crowds: dict[str, Case]) -> None:
    before = counted("people")
    await search(crowded, crowds["middle"].gallery, list(crowds["middle"].crowd.embeddings[:5]))
    assert counted("people")[0] - before[0] < 5
    assert Settings(_env_file=None).search_audit_share == 0.001


async def test_an_exact_scan_is_not_audited(audited: AsyncSession, crowds: dict[str, Case]) -> None:
    before = counted("all")
    await search(audited, crowds["small"].gallery, list(crowds["small"].crowd.embeddings[:5]))
    assert counted("all") == before
