"""`evaluate`: the report has the keys that scripts rely on, and no data stay in the database."""

from pathlib import Path

import pytest

from service.encoder.fake_pictures import draw_nobody, draw_people
from tests.cli.conftest import Command
from tests.support.data import data_path
from tests.support.packs import save_photographs

KEYS = ["people", "probes", "rank1_rate", "fnir", "fpir", "threshold", "failed_to_enroll", "missed", "false_accepts"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three people with two images each; one person has a third image, without a face."""
    for name in ("ada", "bob", "cleo"):
        (tmp_path / "people" / name).mkdir(parents=True)
        for number in (1, 2):
            (tmp_path / "people" / name / f"{number}.jpg").write_bytes(draw_people([name], variation=number))
    (tmp_path / "people" / "bob" / "3.jpg").write_bytes(draw_nobody())
    return tmp_path / "people"


def test_the_report_has_the_keys_of_the_contract(bare_command: Command, folder: Path) -> None:
    report = bare_command("evaluate", folder, "--json").json
    assert [key for key in KEYS if key not in report] == []
    assert (report["people"], report["probes"]) == (3, 3)
    assert (report["rank1_rate"], report["fnir"], report["fpir"]) == (1, 0, 0)
    assert report["failed_to_enroll"] == [{"image": "bob/3.jpg", "reason": "no-face-found"}]


def test_a_threshold_that_nothing_reaches_misses_everybody(bare_command: Command, folder: Path) -> None:
    done = bare_command("evaluate", folder, "--threshold", "1")
    assert "FNIR          100.0%" in done.out
    assert done.out.count("missed") == 3


def test_an_evaluation_leaves_no_tenant(bare_command: Command, folder: Path) -> None:
    before = bare_command("tenants", "list").out
    bare_command("evaluate", folder)
    assert bare_command("tenants", "list").out == before


def test_the_error_about_a_missing_folder_names_it(bare_command: Command) -> None:
    done = bare_command("evaluate", "nowhere")
    assert done.code == 5
    assert "nowhere" in done.err


def test_a_pack_recognizes_people_in_photographs_and_no_stranger(
    bare_command: Command, made_pack: Path, tmp_path: Path
) -> None:
    people = save_photographs(tmp_path / "made", ["Ada", "Grace", "Mary"])
    report = bare_command("evaluate", people, "--encoder", f"insightface:{made_pack}", "--json").json
    assert (report["people"], report["probes"], report["rank1_rate"]) == (3, 6, 1.0)
    assert (report["missed"], report["false_accepts"], report["failed_to_enroll"]) == ([], [], [])


@pytest.mark.parametrize("encoder", ["dlib", "insightface"])
def test_real_people_are_recognized_and_no_stranger_is(bare_command: Command, encoder: str) -> None:
    """The figures of docs/accuracy.md."""
    if encoder == "insightface":
        encoder = f"insightface:{data_path('models', 'scrfd2.5g-mobilefacenet128')}"
    report = bare_command("evaluate", data_path("faces", "people"), "--encoder", encoder, "--json").json
    assert (report["people"], report["probes"], report["rank1_rate"]) == (6, 8, 1.0)
    assert (report["missed"], report["false_accepts"], report["failed_to_enroll"]) == ([], [], [])
