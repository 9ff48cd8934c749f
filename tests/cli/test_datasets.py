"""`import` and `export`: whole files, or nothing."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command

SPACE = ["--embedding-space", "external:test:4"]
DATASET = '[["Ada","0.1,0.2,0.3,-0.25"],\n["Ada","0.125,0.25,0.3,0.5"],\n["Bob","-1.5,2.29,0.75,0.5"]]\n'


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A file in the shape of the legacy recognizer's caller."""
    path = tmp_path / "dataset.json"
    path.write_text(DATASET)
    return path


def test_an_imported_file_is_exported_byte_for_byte(command: Command, dataset: Path) -> None:
    done = command("import", dataset, *SPACE, "--json").json
    assert (done["people"], done["faces"]) == (2, 3)
    assert command("export").out == DATASET


@pytest.mark.parametrize("format", ["encoder", "ndjson"])
def test_a_file_of_every_format_is_exported_as_it_was_imported(command: Command, dataset: Path, format: str) -> None:
    command("import", dataset, *SPACE)
    assert command("export", "--format", format, "--output", "first").code == 0
    command("import", "first", "--gallery", "copy", *SPACE)
    command("export", "--format", format, "--output", "second", "--gallery", "copy")
    assert Path("second").read_bytes() == Path("first").read_bytes()
    assert command("export", "--gallery", "copy").out == DATASET


def test_a_file_with_a_wrong_row_imports_nothing(command: Command, dataset: Path) -> None:
    dataset.write_text(json.dumps([["Ada", "0.1,0.2,0.3,0.4"], ["Bob", "0.1,0.2"]]))
    done = command("import", dataset, *SPACE)
    assert done.code == 4
    assert "2" in done.err
    assert command("galleries", "list", "--json").json["items"] == []
    command("galleries", "create", "default", *SPACE)
    assert command("import", dataset, *SPACE).code == 4
    assert command("galleries", "show", "default", "--json").json["people"] == 0


def test_a_file_of_another_dimension_is_refused(command: Command, dataset: Path) -> None:
    command("galleries", "create", "default", "--embedding-space", "external:test:512")
    done = command("import", dataset)
    assert done.code == 4
    assert "512" in done.err


def test_an_export_that_fails_leaves_no_file(command: Command, tmp_path: Path) -> None:
    assert command("export", "--gallery", "nix", "--output", "out.json").code == 5
    assert list(tmp_path.iterdir()) == []


def test_json_and_the_dataset_do_not_share_standard_output(command: Command, dataset: Path) -> None:
    command("import", dataset, *SPACE)
    assert command("export", "--json").code == 4
    assert command("export", "--json", "--output", "out.json").json["bytes"] == len(DATASET)
