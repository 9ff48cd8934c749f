"""`models convert`: what was converted, what was not and why."""

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.support.data import data_path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder of one whole model and of one whose parameters are missing."""
    for name in ("genderage", "arcface_r34"):
        shutil.copytree(data_path("legacy-models", name), tmp_path / "models" / name)
    return tmp_path / "models"


def test_what_cannot_be_converted_is_named_beside_what_was(bare_command: Command, models: Path) -> None:
    done = bare_command("models", "convert", models, "--out", "onnx", "--json")
    assert done.code == 3
    assert [(model["model"], model["folder"]) for model in done.json["converted"]] == [("genderage", "onnx/genderage")]
    assert Path("onnx/genderage/model.onnx").is_file()
    (failed,) = done.json["failed"]
    assert failed["folder"].endswith("arcface_r34")
    assert "missing" in failed["reason"]


def test_where_nothing_can_be_converted_nothing_is_written(bare_command: Command, models: Path) -> None:
    done = bare_command("models", "convert", models / "arcface_r34")
    assert done.code == 7
    assert "missing" in done.err
    assert [path.name for path in models.iterdir() if path.name.endswith("-onnx")] == []
