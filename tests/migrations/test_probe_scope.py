"""Revision 0007 gives the scope `probe` to the keys that could send embeddings as probes before it existed."""

import json
from typing import Any

import pytest

from service.access.authentication import admit
from service.database.connection import open_pool
from service.database.logins import Logins, connect
from service.database.schema.migrate import migrate
from tests.migrations.record import RECORDED
from tests.migrations.test_migrations import empty_database  # noqa: F401 - a fixture
from tests.migrations.test_upgrade import first_release  # noqa: F401 - a fixture

CONTENTS: dict[str, Any] = json.loads((RECORDED / "rows_0.1.0.json").read_text())

pytestmark = pytest.mark.filterwarnings("ignore:Did not recognize type 'halfvec'")


async def test_keys_of_earlier_releases_keep_what_they_could_do(
    first_release: Logins,  # noqa: F811 - the fixture
) -> None:
    with connect(first_release.administrator) as connection:
        connection.execute((RECORDED / "rows_0.1.0.sql").read_bytes())
    with connect(first_release.administrator) as connection:
        insert = """INSERT INTO api_key (tenant_id, id, name, hint, digest, scopes)
            SELECT tenant_id, %s, 'old', 'fik', %s, %s FROM tenant WHERE name = %s"""
        for number, scopes in enumerate((["verify"], ["enroll", "read"]), 1):
            connection.execute(insert, [number, bytes(number), scopes, CONTENTS["tenant"]])
    migrate(first_release)
    with connect(first_release.administrator) as connection:
        rows = connection.execute("SELECT scopes FROM api_key WHERE name = 'old' ORDER BY id").fetchall()
        forced = connection.execute("SELECT relforcerowsecurity FROM pg_class WHERE relname = 'api_key'").fetchone()
    assert [scopes for (scopes,) in rows] == [["verify", "probe"], ["enroll", "read"]]
    assert forced == (True,)
    engine = open_pool(first_release.service, 1)
    assert "probe" in (await admit(engine, CONTENTS["key"])).scopes
    await engine.dispose()
