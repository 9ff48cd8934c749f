"""After a purge, no file of the embedded database contains a name or an embedding of an erased person."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from service.database.connection import Database, open_database
from service.database.logins import connect
from service.database.purge import Purge, purge_database
from service.database.scanning import Marker, Scan, read_markers, scan_folder
from service.database.schema.migrate import migrate
from service.database.session import tenant_session
from service.errors import Conflict, InvalidRequest
from service.gallery.bulk_writing import ReferenceRow, add_references
from service.gallery.galleries import create_gallery, find_gallery
from service.gallery.people import delete_person, find_person_named
from service.settings import Settings
from tests.conftest import new_tenant
from tests.support.galleries import space_of

NAME = "Zaphod-7c1f9e2a Beeblebrox"
DIMENSION = 512


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def forms(scan: Scan, part: str) -> set[str]:
    """The forms of the markers that were found in files whose path contains `part`."""
    return {sighting.form for sighting in scan.found if part in sighting.file}


async def test_an_erased_person_is_in_no_file_after_a_purge(folder: Path) -> None:
    values = np.random.default_rng(7).standard_normal(DIMENSION).astype(np.float32).astype(np.float64)
    markers = read_markers([NAME, json.dumps(values.tolist())])
    async with open_database(Settings(_env_file=None, data_dir=folder, encoder="fake")) as database:
        migrate(database.logins)
        with connect(database.logins.administrator) as administrator:  # the search cannot read compressed pages
            administrator.execute("ALTER SYSTEM SET wal_compression = off")
            administrator.execute("SELECT pg_reload_conf()")
        tenant = await enroll_and_erase(database, values)
        before = await searched(database, folder, markers)
        assert {"text", "float32", "float16"} <= forms(before, "/base/")
        assert {"text", "float32", "float16"} <= forms(before, "/pg_wal/")

        done = await asyncio.to_thread(purge_database, database.logins.administrator)
        after = await searched(database, folder, markers)
        assert (after.found, after.unreadable, done.shortcomings) == ([], [], [])
        assert {"person", "face", "face_detail", "job", "job_input"} <= set(done.tables)
        assert done.segments_removed > 0
        await check_the_rest(database, tenant, values)


async def enroll_and_erase(database: Database, values: np.ndarray) -> int:
    """Enroll the marked person among others, then erase the person. Older segments of the log wait for later use."""
    tenant = await new_tenant(database)
    others = [ReferenceRow(f"person {number}", None, values + number + 1) for number in range(200)]
    async with tenant_session(database.engine, tenant) as session:
        gallery = await create_gallery(session, "staff", space_of(DIMENSION))
        await add_references(session, gallery, [ReferenceRow(NAME, None, values, "a.jpg"), *others])
        await session.commit()
        with connect(database.logins.administrator) as administrator:
            for _ in range(3):
                administrator.execute("SELECT pg_switch_wal()")
                administrator.execute("CHECKPOINT")
        person = await find_person_named(session, gallery, NAME)
        assert person is not None
        await delete_person(session, gallery, person.id)
        await session.commit()
    return tenant


async def searched(database: Database, folder: Path, markers: list[Marker]) -> Scan:
    with connect(database.logins.administrator) as administrator:
        administrator.execute("CHECKPOINT")
    return await asyncio.to_thread(scan_folder, folder / "postgres", markers)


async def check_the_rest(database: Database, tenant: int, values: np.ndarray) -> None:
    """The other people are still there, and the setting that the purge changed for a while is as before."""
    async with tenant_session(database.engine, tenant) as session:
        gallery = await find_gallery(session, "staff")
        other = await find_person_named(session, gallery, "person 17")
        assert other is not None
        assert other.faces == 1
        assert await session.scalar(text("SELECT count(*) FROM face_detail")) == 200
        assert await session.scalar(text("SHOW wal_recycle")) == "on"


async def test_a_purge_waits_for_a_transaction_that_can_see_erased_rows(
    database: Database, tenant_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.database.purge.LOCK_SECONDS", 1)
    async with tenant_session(database.engine, tenant_id) as session:
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await session.execute(text("SELECT 1 FROM person"))
        with pytest.raises(Conflict, match="still open"):
            await asyncio.to_thread(purge_database, database.logins.administrator)


async def test_a_login_without_the_rights_is_told_what_was_not_done(database: Database) -> None:
    done: Purge = await asyncio.to_thread(purge_database, database.logins.service)
    assert not {"tenant", "api_key", "job"} & set(done.tables)
    assert any("does not own" in shortcoming for shortcoming in done.shortcomings)
    assert any("no superuser" in shortcoming for shortcoming in done.shortcomings)


@pytest.mark.parametrize("line", ["Ada", "[1, 2", "[1, 2, 3]", '["a", "b", "c", "d"]', "[1, 2, 3, NaN]"])
def test_a_marker_that_would_be_found_by_chance_or_is_none_is_refused(line: str) -> None:
    with pytest.raises(InvalidRequest, match="line 2"):
        read_markers(["", line])


def test_a_marker_is_found_across_the_borders_of_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.database.scanning.CHUNK_BYTES", 16)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"x" * 11 + NAME.encode() + b"y" * 50)
    (tmp_path / "other").write_bytes(b"nothing")
    scan = scan_folder(tmp_path, read_markers([NAME]))
    assert [sighting.file for sighting in scan.found] == ["inner/file"]
    assert scan.files == 2
