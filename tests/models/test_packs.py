"""InsightFace packs on disk: both layouts, the searched folders, and the refusals."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidModel, InvalidSettings
from service.models.packs import MANIFEST, file_digest, find_pack, read_pack
from tests.support.packs import DETECTOR, RECOGNIZER


@pytest.fixture
def folder(made_pack: Path, tmp_path: Path) -> Path:
    """A copy of the made pack, which a test may damage."""
    return Path(shutil.copytree(made_pack, tmp_path / "models" / "pack"))


def write_manifest(folder: Path, **changes: object) -> None:
    tasks: dict[str, dict[str, Any]] = {
        "detection": {"file": DETECTOR, "sha256": file_digest(folder / DETECTOR)},
        "recognition": {"file": RECOGNIZER, "preprocessing": {"mean": 127.5, "std": 127.5}},
    }
    for path, value in changes.items():
        task, key = path.split("__")
        tasks[task][key] = value
    manifest = {"manifest_version": 2, "model_id": "test", "license": "MODEL.LICENSE", "tasks": tasks}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_files_without_a_manifest_are_classified_by_their_shapes(folder: Path) -> None:
    pack = read_pack(folder)
    assert pack.detection.path.name == DETECTOR
    assert pack.recognition.path.name == RECOGNIZER
    assert (pack.detection.mean, pack.detection.std) == (127.5, 128.0)
    assert (pack.recognition.mean, pack.recognition.std) == (127.5, 127.5)


def test_a_manifest_names_the_file_of_each_task(folder: Path) -> None:
    (folder / "aaa_another.onnx").write_bytes(b"not read")
    write_manifest(folder)
    assert read_pack(folder).detection.path.name == DETECTOR


def test_a_manifest_may_leave_scaling_to_the_network(folder: Path) -> None:
    write_manifest(folder, recognition__preprocessing="embedded")
    assert (read_pack(folder).recognition.mean, read_pack(folder).recognition.std) == (0.0, 1.0)


def test_a_manifest_of_another_version_is_ignored(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"manifest_version": 1}')
    assert read_pack(folder).recognition.path.name == RECOGNIZER


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"detection__sha256": "0" * 64}, "SHA-256"),
        ({"detection__file": f"../pack/{DETECTOR}"}, "inside the pack"),
        ({"detection__file": "/etc/passwd"}, "inside the pack"),
        ({"detection__file": "absent.onnx"}, "absent.onnx is missing"),
        ({"recognition__preprocessing": {"mean": 1, "std": 0}}, "tasks.recognition.preprocessing"),
        ({"recognition__file": 7}, "tasks.recognition does not name a file"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_field(folder: Path, change: dict[str, object], reason: str) -> None:
    write_manifest(folder, **change)
    with pytest.raises(InvalidModel, match=reason):
        read_pack(folder)


def test_a_manifest_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_text("{")
    with pytest.raises(InvalidModel, match="not readable JSON"):
        read_pack(folder)


def test_a_pack_without_a_recognition_file_is_refused(folder: Path) -> None:
    (folder / RECOGNIZER).unlink()
    with pytest.raises(InvalidModel, match="no ONNX file for recognition"):
        read_pack(folder)


def test_a_damaged_file_is_refused_by_name(folder: Path) -> None:
    (folder / RECOGNIZER).write_bytes(b"\xff" * 1000)
    with pytest.raises(InvalidModel, match=re.escape(RECOGNIZER)):
        read_pack(folder)


def test_a_pack_is_found_by_its_name_in_the_data_folder(folder: Path) -> None:
    assert find_pack("pack", folder.parents[1]).folder == folder


def test_the_error_about_a_missing_pack_names_the_searched_folders_and_the_license(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as refused:
        find_pack("buffalo_l", tmp_path)
    assert str(tmp_path / "models" / "buffalo_l") in refused.value.detail
    assert ".insightface/models/buffalo_l" in refused.value.detail
    assert "non-commercial" in refused.value.detail
    assert not list(tmp_path.iterdir())
