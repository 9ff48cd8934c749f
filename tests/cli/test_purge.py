"""`face-identity purge`: its receipt says what was done, and lists the files that still hold a marker."""

import json
import uuid
from pathlib import Path

import pytest

from service.settings import Settings
from tests.cli.conftest import Command


def test_the_receipt_lists_a_name_until_it_is_erased(bare_command: Command, settings: Settings, tmp_path: Path) -> None:
    if settings.database_url:
        pytest.skip("left out: the files of the server of DATABASE_URL are not searched")
    name, tenant = f"marked {uuid.uuid4().hex}", f"tenant-{uuid.uuid4().hex[:12]}"
    dataset = tmp_path / "dataset.json"
    dataset.write_text(json.dumps([[name, "0.1,0.2,0.7"]]))
    bare_command("tenants", "create", tenant, "--json")
    place = ("--tenant", tenant, "--gallery", "staff")
    assert bare_command("import", dataset, *place, "--embedding-space", "external:test:3").code == 0
    (tmp_path / "erased").write_text(f"{name}\n")

    kept = bare_command("purge", "--find", tmp_path / "erased", "--json")
    assert kept.code == 1
    assert {(found["number"], found["form"]) for found in kept.json["searched"]["after"]["found"]} == {(1, "text")}
    assert name not in kept.out
    assert bare_command("galleries", "delete", "staff", "--tenant", tenant, "--yes").code == 0
    gone = bare_command("purge", "--find", tmp_path / "erased", "--json")
    assert (gone.code, gone.json["searched"]["after"]["found"], gone.json["shortcomings"]) == (0, [], [])
    assert "person" in gone.json["tables"]
    assert gone.json["searched"]["before"]["found"]


def test_a_list_that_is_missing_or_empty_is_refused(bare_command: Command, tmp_path: Path) -> None:
    assert bare_command("purge", "--find", tmp_path / "nothing").code == 5
    (tmp_path / "empty").write_text("\n")
    assert bare_command("purge", "--find", tmp_path / "empty").code == 4
