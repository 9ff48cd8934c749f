"""Revision 0004 gives the stored names their canonical form, and loses nothing."""

import json
import sys
from typing import Any

import pytest
from alembic.script import ScriptDirectory

from service.database.connection import open_pool
from service.database.identifiers import to_text
from service.database.logins import Logins, connect
from service.database.names import canonical_name
from service.database.schema.migrate import configuration, migrate
from service.database.session import tenant_session
from service.gallery.galleries import find_gallery
from service.gallery.people import find_person_named
from service.identity.consistency import check_people
from tests.migrations.record import RECORDED, catalog
from tests.migrations.test_migrations import empty_database  # noqa: F401 - a fixture
from tests.migrations.test_upgrade import first_release  # noqa: F401 - a fixture

CONTENTS: dict[str, Any] = json.loads((RECORDED / "rows_0.1.0.json").read_text())
NFC, NFD = "Jos\u00e9", "Jose\u0301"

PEOPLE = [  # id, name, external id; then the name and the external id that they have afterwards
    (1, NFC, None, NFC, None),
    (2, NFD, None, NFD, None),  # 1 has this name: whether they are one person is not for a migration to decide
    (3, f"{NFC} ", None, f"{NFC} ", None),
    (4, "\u3000Zoe\u0308", None, "Zo\u00eb", None),
    (5, "Zoe\u0308", None, "Zoe\u0308", None),  # the older person has the canonical form now
    (6, NFD, "badge 1", NFC, "badge 1"),  # people with external ids may share a name
    (7, "Eve", "badge 2", "Eve", "badge 2"),
    (8, "Eva", "badge 2 ", "Eva", "badge 2 "),
    (9, "Ada ", f"{NFD} 3", "Ada", f"{NFC} 3"),
]
GALLERIES = {NFC: NFC, NFD: f"{NFC} (2)", f" {NFC}": f"{NFC} (3)", "G\u0327 ": "\u0122", "g": "g"}

pytestmark = pytest.mark.filterwarnings("ignore:Did not recognize type 'halfvec'")


def _tenant(logins: Logins) -> int:
    with connect(logins.administrator) as connection:
        rows = connection.execute("SELECT tenant_id FROM tenant WHERE name = %s", [CONTENTS["tenant"]])
        return int((rows.fetchone() or (0,))[0])


def _fill(logins: Logins) -> None:
    with connect(logins.administrator) as connection:
        connection.execute((RECORDED / "rows_0.1.0.sql").read_bytes())
    tenant = _tenant(logins)
    with connect(logins.administrator) as connection:
        for number, name, external_id, _, _ in PEOPLE:
            row = [tenant, number, name, external_id]
            connection.execute(
                "INSERT INTO person (tenant_id, gallery_id, id, name, external_id) VALUES (%s, 1, %s, %s, %s)", row
            )
        for name in GALLERIES:
            connection.execute(
                "INSERT INTO gallery (tenant_id, name, embedding_space, embedding_space_digest, dimension, metric, "
                "default_threshold) VALUES (%s, %s, 'external:x:3', '', 3, 'cosine', 0.4)",
                [tenant, name],
            )
        connection.execute("INSERT INTO tenant (tenant_id, name) VALUES (1, %s), (2, %s)", [NFC, NFD])
        connection.execute("UPDATE api_key SET galleries = %s", [[NFD, "g", "not yet "]])
        connection.execute(f"UPDATE gallery_size SET bytes = {_BYTES} WHERE gallery_id = 1")


_BYTES = """(SELECT sum(octet_length(name) + coalesce(octet_length(external_id), 0) + octet_length(metadata::text))
    FROM person WHERE gallery_id = 1)"""


def test_names_become_canonical_unless_another_person_has_the_name(first_release: Logins) -> None:  # noqa: F811
    _fill(first_release)
    assert migrate(first_release).is_current
    with connect(first_release.administrator) as connection:
        people = connection.execute(
            "SELECT id, name, external_id FROM person WHERE gallery_id = 1 AND id < 100 ORDER BY id"
        ).fetchall()
        (counted,) = connection.execute(
            f"SELECT sum(bytes) = {_BYTES} FROM gallery_size WHERE gallery_id = 1"
        ).fetchone() or (False,)
    assert people == [(number, name, external_id) for number, _, _, name, external_id in PEOPLE]
    assert counted, "the counter of bytes is not that of the renamed people"


def test_galleries_and_tenants_stay_apart_and_keys_follow_their_gallery(first_release: Logins) -> None:  # noqa: F811
    _fill(first_release)
    migrate(first_release)
    with connect(first_release.administrator) as connection:
        galleries = [name for (name,) in connection.execute("SELECT name FROM gallery ORDER BY id")]
        tenants = [name for (name,) in connection.execute("SELECT name FROM tenant WHERE tenant_id < 3 ORDER BY 1")]
        (allowed,) = connection.execute("SELECT galleries FROM api_key LIMIT 1").fetchone() or ([],)
    assert set(galleries) >= set(GALLERIES.values())
    assert tenants == [NFC, f"{NFC} (2)"]
    assert allowed == [f"{NFC} (2)", "g", "not yet "], "a key must not open a gallery that it did not open before"


async def test_people_whose_names_collide_are_listed_by_the_check(first_release: Logins) -> None:  # noqa: F811
    _fill(first_release)
    migrate(first_release)
    engine = open_pool(first_release.service, 2)
    async with tenant_session(engine, _tenant(first_release)) as session:
        gallery = await find_gallery(session, "staff")
        pairs = [(pair.person.number, pair.other.number) for pair in (await check_people(session, gallery)).same_names]
        found = await find_person_named(session, gallery, NFD)
    await engine.dispose()
    assert found is not None
    assert found.id == to_text(1)
    assert pairs == [(2, 1), (3, 1), (5, 4), (8, 7)]


def test_the_upgrade_leaves_row_level_security_forced(first_release: Logins) -> None:  # noqa: F811
    with connect(first_release.administrator) as connection:
        before = [line for line in catalog(connection).splitlines() if line.startswith('["table"')]
    migrate(first_release)
    with connect(first_release.administrator) as connection:
        assert [line for line in catalog(connection).splitlines() if line.startswith('["table"')] == before


def test_the_database_strips_the_blanks_that_python_strips() -> None:
    module = ScriptDirectory.from_config(configuration()).get_revision("0004").module
    blanks = {chr(code) for code in range(sys.maxunicode + 1) if not canonical_name(chr(code))}
    controls = {"\t", "\n", "\v", "\f", "\r", "\x1c", "\x1d", "\x1e", "\x1f", "\x85"}
    assert set(module.BLANKS) == blanks - controls
