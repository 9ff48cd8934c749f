"""`models`: packs are listed, installed from a file and verified; converted models and failures are reported."""

import io
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.support.data import data_path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one complete model and one model without parameters."""
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


NETWORKS = ("scrfd_2.5g_bnkps.onnx", "mobilefacenet.onnx")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A pack of two small networks, as InsightFace publishes packs."""
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for name in NETWORKS:
            zipped.write(data_path("models", "scrfd2.5g-mobilefacenet128", name), f"mine/{name}")
    return path


@pytest.fixture
def own_folder(bare_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A DATA_DIR for this test; `bare_command` set the run's."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_pack_is_installed_from_a_file_and_verified(bare_command: Command, own_folder: Path, archive: Path) -> None:
    installed = bare_command("models", "install", "mine", "--file", archive, "--yes", "--json")
    assert installed.json["is_intact"]
    assert "non-commercial" in installed.err
    assert {file["name"] for file in installed.json["files"]} == set(NETWORKS)
    listed = bare_command("models", "list", "--json").json
    states = {pack["name"]: pack["state"] for pack in listed}
    assert (states["mine"], states["buffalo_l"]) == ("installed", "not installed")
    assert "mobilefacenet.onnx" in bare_command("models", "verify", "mine").out


def test_a_changed_network_is_found_out(bare_command: Command, own_folder: Path, archive: Path) -> None:
    bare_command("models", "install", "mine", "--file", archive, "--yes")
    network = own_folder / "models" / "mine" / "mobilefacenet.onnx"
    network.write_bytes(network.read_bytes() + b"x")
    done = bare_command("models", "verify", "mine", "--json")
    assert (done.code, done.json["is_intact"]) == (1, False)
    assert [file["name"] for file in done.json["files"] if not file["is_intact"]] == ["mobilefacenet.onnx"]


def test_without_a_yes_nothing_is_installed(
    bare_command: Command, own_folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    done = bare_command("models", "install", "mine", "--file", archive)
    assert done.code == 4
    assert "not accepted" in done.err
    assert not (own_folder / "models").exists()


def test_an_unknown_pack_names_those_there_are(bare_command: Command, own_folder: Path) -> None:
    done = bare_command("models", "install", "nothing", "--yes")
    assert done.code == 5
    assert "buffalo_l" in done.err
