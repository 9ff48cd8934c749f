"""The demo with the default encoder, and the sources of its images."""

import sys
import zipfile
from pathlib import Path

import pytest

from service.cli import demo, demo_download
from service.cli.demo_download import ACTOR, GROUP_PHOTO, insightface_images
from service.cli.demo_pictures import seated_at
from service.cli.demo_report import Probe
from service.encoder.contract import Box
from service.errors import NotFound
from service.settings import Settings
from tests.cli.conftest import Command


def test_the_demo_recognizes_everyone_and_no_stranger_and_does_it_again(bare_command: Command) -> None:
    first = bare_command("demo", "--encoder", "dlib", "--json")
    assert first.code == 0
    report = first.json
    assert (report["right"], len(report["enrolled"]), len(report["strangers"])) == (True, 6, 2)
    assert {probe["picture"] for probe in report["probes"]} == {
        "group photo",
        "mirrored",
        "darker",
        "half size",
        "JPEG 20",
    }
    assert {probe["person"] for probe in report["probes"] if probe["recognized"] is None} == set(report["strangers"])
    again = bare_command("demo", "--encoder", "dlib", "--json").json
    assert again["probes"] == report["probes"]
    counts = bare_command("galleries", "show", "demo", "--tenant", "demo", "--json").json
    assert (counts["people"], counts["faces"]) == (6, 6)


def test_the_demo_stores_its_data_beside_its_images_if_the_home_folder_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()  # nothing can be made below a file, not even by root
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file" / "share"))
    monkeypatch.delenv("DATA_DIR", raising=False)
    usual, output = Settings(), tmp_path / "output"
    assert demo._with_writable_folder(usual, output).data_dir == output / "data"
    assert str(output / "data") in capsys.readouterr().err
    chosen = Settings(data_dir=usual.data_dir)
    assert demo._with_writable_folder(chosen, output) is chosen
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert demo._with_writable_folder(Settings(), output).data_dir == tmp_path / "share" / "face-identity"


def test_an_encoder_that_finds_no_face_fails_the_demo(bare_command: Command) -> None:
    done = bare_command("demo", "--encoder", "fake")
    assert done.code == 4
    assert "no-face-found" in done.err


@pytest.mark.parametrize(
    ("is_enrolled", "recognized", "similarity", "is_right"),
    [
        (True, "Ada", 0.8, True),
        (True, "Bob", 0.8, False),
        (True, None, 0.2, False),
        (True, None, None, False),
        (False, None, 0.2, True),
        (False, None, None, False),
        (False, "Bob", 0.8, False),
    ],
)
def test_a_probe_is_right_if_the_enrolled_person_or_no_stranger_is_recognized(
    is_enrolled: bool, recognized: str | None, similarity: float | None, is_right: bool
) -> None:
    assert Probe("Ada", is_enrolled, "mirrored", recognized, similarity).is_right is is_right


def test_a_face_of_the_group_photo_belongs_to_the_person_at_its_position() -> None:
    assert seated_at(Box(65, 284, 169, 388)) == "Player 1"
    assert seated_at(Box(600, 700, 650, 750)) is None


@pytest.fixture
def images(tmp_path: Path) -> dict[str, bytes]:
    """The real images, from the installed package."""
    return insightface_images(tmp_path / "unused")


@pytest.fixture
def without_insightface(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo find no installed insightface, as in a plain install."""
    monkeypatch.setattr(demo_download, "find_spec", lambda _name: None)


def index_that_serves(folder: Path, members: dict[str, bytes]) -> list[str]:
    """Return a command that stands for pip and puts a wheel with these images into the folder after --dest."""
    wheel = folder / "insightface-2.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"insightface/data/images/{name}", content)
    script = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[sys.argv.index('--dest') + 1])"
    return [sys.executable, "-c", script, str(wheel)]


def test_images_are_downloaded_once_and_then_read_from_the_cache(
    images: dict[str, bytes], without_insightface: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "data" / "demo"
    assert insightface_images(cache, index_that_serves(tmp_path, images)) == images
    assert "downloading insightface==2.1" in capsys.readouterr().err
    assert insightface_images(cache, ["no-such-program"]) == images
    assert capsys.readouterr().err == ""


def test_an_image_with_another_digest_is_refused_and_not_kept(
    images: dict[str, bytes], without_insightface: None, tmp_path: Path
) -> None:
    changed = images | {GROUP_PHOTO: images[GROUP_PHOTO][:-1] + b"x"}
    with pytest.raises(NotFound, match="another SHA-256"):
        insightface_images(tmp_path / "demo", index_that_serves(tmp_path, changed))
    assert not (tmp_path / "demo").exists()


def test_a_wheel_without_the_images_is_refused(
    images: dict[str, bytes], without_insightface: None, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="does not contain the images"):
        insightface_images(tmp_path / "demo", index_that_serves(tmp_path, {ACTOR: images[ACTOR]}))


@pytest.mark.parametrize(
    "pip",
    [
        ["no-such-program"],
        [sys.executable, "-c", "raise SystemExit('no index can be reached')"],
    ],
)
def test_a_download_that_fails_names_the_next_step(pip: list[str], without_insightface: None, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Next step: run `pip download") as refused:
        insightface_images(tmp_path / "demo", pip)
    assert str(tmp_path / "demo") in refused.value.detail
