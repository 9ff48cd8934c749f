"""Release 0.1.0 is frozen: its revision, the resulting schema, and its rows, which every upgrade keeps."""

import json
from typing import Any

import pytest
from alembic import command
from sqlalchemy import create_engine

from service.access.authentication import admit, admit_operator
from service.database.connection import Database, open_pool
from service.database.logins import Logins, connect
from service.database.schema.migrate import configuration, migrate
from service.database.session import tenant_session
from service.gallery.galleries import find_gallery
from service.gallery.people import find_person_named
from service.gallery.search.search import search
from service.identity.datasets.writing import export_dataset
from tests.migrations.record import FIRST_REVISION, RECORDED, catalog, count_rows, digests
from tests.migrations.test_migrations import check, empty_database  # noqa: F401 - a fixture
from tests.support.tenants import embedding_of

CONTENTS: dict[str, Any] = json.loads((RECORDED / "rows_0.1.0.json").read_text())
HOW = "revision 0001 is frozen: write a new revision instead (before release 0.1.0: python -m tests.migrations.record)"

pytestmark = pytest.mark.filterwarnings("ignore:Did not recognize type 'halfvec'")


@pytest.fixture
def first_release(empty_database: Logins) -> Logins:  # noqa: F811 - the fixture
    """A database at revision 0001 with the recorded rows of release 0.1.0."""
    engine = create_engine(empty_database.administrator)
    with engine.begin() as connection:
        alembic = configuration()
        alembic.attributes["connection"] = connection
        command.upgrade(alembic, FIRST_REVISION)
    engine.dispose()
    return empty_database


def test_the_files_of_the_first_release_are_unchanged() -> None:
    assert digests() == json.loads((RECORDED / "frozen.json").read_text()), HOW


def test_the_first_revision_makes_the_recorded_schema(first_release: Logins) -> None:
    with connect(first_release.administrator) as connection:
        assert catalog(connection).splitlines() == (RECORDED / "schema_0001.txt").read_text().splitlines(), HOW


def test_the_recorded_rows_fill_every_table() -> None:
    assert {name for name, count in CONTENTS["counts"].items() if count == 0} == set()


async def test_a_database_that_the_first_release_filled_upgrades_to_the_newest_schema(first_release: Logins) -> None:
    with connect(first_release.administrator) as connection:
        connection.execute((RECORDED / "rows_0.1.0.sql").read_bytes())
    assert migrate(first_release).is_current
    check(first_release.administrator)
    with connect(first_release.administrator) as connection:
        counts = count_rows(connection)
    assert {name: counts.get(name, 0) for name in CONTENTS["counts"]} == CONTENTS["counts"]
    engine = open_pool(first_release.service, 2)
    assert (await admit_operator(engine, CONTENTS["operator_key"])).key_id
    caller = await admit(engine, CONTENTS["key"])
    async with tenant_session(engine, caller.tenant_id) as session:
        staff, visitors = [await find_gallery(session, name) for name in ("staff", "visitors")]
        ((candidate,),) = await search(session, staff, [embedding_of(CONTENTS["tenant"])], limit=1)
        assert candidate.person_id == CONTENTS["person"]
        grace = await find_person_named(session, visitors, "Grace", "employee-7")
        assert grace is not None
        assert (grace.name, grace.metadata) == ("Grace", {"floor": 3})
        exported = b"".join([chunk async for chunk in export_dataset(session, visitors, "dataset")])
        assert b'["Grace","0.1,0.2,0.3"]' in exported
    await engine.dispose()


def test_a_changed_table_or_policy_shows_in_the_catalog(first_release: Logins, database: Database) -> None:
    with connect(first_release.administrator) as connection:
        before = catalog(connection)
        for statement in (
            "ALTER TABLE person ALTER COLUMN name SET STATISTICS 100",
            "ALTER TABLE face NO FORCE ROW LEVEL SECURITY",
            "DROP POLICY tenant ON job",
            "GRANT DELETE ON tenant TO face_identity_service",
            "ALTER FUNCTION spend_v1 SECURITY DEFINER",
        ):
            connection.execute(statement.encode())
            after = catalog(connection)
            assert after != before, statement
            before = after
