"""`models`: convert the models of a folder; list, install and verify packs."""

import io
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.models.mxnet import families
from tests.support.packs import DETECTOR, RECOGNIZER


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one complete model of MXNet and one model without parameters."""
    network, outputs = families.genderage(4)
    network.save(tmp_path / "models" / "genderage", outputs)
    network, outputs = families.mobilefacenet(4, 16)
    network.save(tmp_path / "models" / "arcface", outputs)
    (tmp_path / "models" / "arcface" / "model-0000.params").unlink()
    return tmp_path / "models"


def test_one_model_that_cannot_be_converted_does_not_stop_the_others(bare_command: Command, models: Path) -> None:
    done = bare_command("models", "convert", models, "--out", "onnx", "--json")
    assert done.code == 3
    assert [(model["model"], model["folder"]) for model in done.json["converted"]] == [("genderage", "onnx/genderage")]
    assert Path("onnx/genderage/model.onnx").is_file()
    (failed,) = done.json["failed"]
    assert failed["folder"].endswith("arcface")
    assert "missing" in failed["reason"]


def test_no_folder_is_written_if_no_model_can_be_converted(bare_command: Command, models: Path) -> None:
    done = bare_command("models", "convert", models / "arcface")
    assert done.code == 7
    assert "missing" in done.err
    assert [path.name for path in models.iterdir() if path.name.endswith("-onnx")] == []


@pytest.fixture
def archive(made_pack: Path, tmp_path: Path) -> Path:
    """The made pack in an archive, as InsightFace publishes packs."""
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for name in (DETECTOR, RECOGNIZER):
            zipped.write(made_pack / name, f"mine/{name}")
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
    assert {file["name"] for file in installed.json["files"]} == {DETECTOR, RECOGNIZER}
    listed = bare_command("models", "list", "--json").json
    states = {pack["name"]: pack["state"] for pack in listed}
    assert (states["mine"], states["buffalo_l"]) == ("installed", "not installed")
    assert RECOGNIZER in bare_command("models", "verify", "mine").out


def test_the_list_names_the_devices_of_the_encoders_in_use(
    bare_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCODER", "dlib,insightface:mine")
    monkeypatch.setenv("RECOGNIZER_LOAD_DEVICE", "1")
    in_use = [each for each in bare_command("models", "list", "--json").json if each["state"] == "in use"]
    assert [(each["name"], each["detector_device"], each["recognizer_device"]) for each in in_use] == [
        ("dlib", "cpu", "cpu"),
        ("insightface:mine", "cpu", "cuda:1"),
    ]
    assert "cuda:1" in bare_command("models", "list").out


def test_verify_names_a_file_that_has_changed(bare_command: Command, own_folder: Path, archive: Path) -> None:
    bare_command("models", "install", "mine", "--file", archive, "--yes")
    network = own_folder / "models" / "mine" / RECOGNIZER
    network.write_bytes(network.read_bytes() + b"x")
    done = bare_command("models", "verify", "mine", "--json")
    assert (done.code, done.json["is_intact"]) == (1, False)
    assert [file["name"] for file in done.json["files"] if not file["is_intact"]] == [RECOGNIZER]


def test_nothing_is_installed_if_the_terms_are_not_accepted(
    bare_command: Command, own_folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    done = bare_command("models", "install", "mine", "--file", archive)
    assert done.code == 4
    assert "not accepted" in done.err
    assert not (own_folder / "models").exists()


def test_the_error_about_an_unknown_pack_lists_the_known_packs(bare_command: Command, own_folder: Path) -> None:
    done = bare_command("models", "install", "nothing", "--yes")
    assert done.code == 5
    assert "buffalo_l" in done.err
