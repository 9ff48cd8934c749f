"""Data of tenants are never in a file with a name, so a killed process leaves nothing behind."""

import os
import re
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.connection import Database, open_pool
from service.database.session import tenant_session
from service.database.spooling import spool, temporary_file

SERVICE = Path(__file__).parents[2] / "service"
ROOMS = ("gallery", "identity", "jobs", "http", "api", "compat")
OWN_FILES = {"identity/datasets/saved_references.py"}
"""Writes the file that its caller names."""


@pytest.fixture
def own_session(database: Database, tenant_id: int, tmp_path: Path) -> AsyncSession:
    """A session that is never used: its engine knows the folder."""
    return tenant_session(open_pool(database.logins.service, 1, temporary_folder=tmp_path / "temporary"), tenant_id)


def test_a_temporary_file_lies_in_the_folder_and_has_no_name(own_session: AsyncSession, tmp_path: Path) -> None:
    with temporary_file(own_session) as file, spool(own_session, 10) as spooled:
        for each in (file, spooled):
            each.write(b"secret" * 100)
            each.flush()
            status = os.fstat(each.fileno())
            assert (status.st_nlink, status.st_dev) == (0, (tmp_path / "temporary").stat().st_dev)
        assert list((tmp_path / "temporary").iterdir()) == []


def test_without_a_folder_that_can_be_made_the_file_lies_elsewhere(own_session: AsyncSession, tmp_path: Path) -> None:
    (tmp_path / "temporary").write_bytes(b"a file")
    with temporary_file(own_session) as file:
        assert os.fstat(file.fileno()).st_nlink == 0


def test_no_room_with_data_of_tenants_makes_temporary_files_by_itself() -> None:
    makers = {
        str(path.relative_to(SERVICE))
        for room in ROOMS
        for path in (SERVICE / room).rglob("*.py")
        if re.search(r"\btempfile\b|mkdtemp|mkstemp", path.read_text())
    }
    assert makers == OWN_FILES
