"""Every command of the legacy recognizer's README, and every flag of its programs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from service.cli.legacy import PROGRAMS
from service.encoder.fake_pictures import draw_nobody, draw_people, people_pixels
from tests.cli.conftest import Command, Done

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "videoAnalytics"


@pytest.fixture
def legacy(bare_command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `face-identity legacy` on a machine without a screen."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return lambda *arguments: bare_command("legacy", *arguments)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The README's folder with one folder for each person, and images to recognize."""
    for name, count in {"person1": 2, "person2": 1}.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(1, count + 1):
            (tmp_path / "data" / name / f"{name}_{number}.jpg").write_bytes(draw_people([name], variation=number))
    (tmp_path / "img.jpg").write_bytes(draw_people(["person2", "stranger", "person1"], variation=9))
    (tmp_path / "nobody.jpg").write_bytes(draw_nobody())
    return tmp_path / "data"


@pytest.fixture
def dataset(legacy: Command, data: Path, tmp_path: Path) -> Path:
    """The file that `encoder.py -p <path-data> -o <output>` writes."""
    assert legacy("encoder", "-p", data, "-o", "dataset.json").code == 0
    return tmp_path / "dataset.json"


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """A video in place of the camera: three images of person1."""
    path = tmp_path / "camera.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (256, 256))
    for variation in (1, 2, 3):
        writer.write(np.ascontiguousarray(people_pixels(["person1"], variation=variation)[..., ::-1]))
    writer.release()
    return path


def labels(done: Done) -> list[list[Any]]:
    """Return the labels of every printed line."""
    assert done.code == 0, done.err
    return [[face["label"] for face in json.loads(line)["faces"]] for line in done.out.splitlines()]


def test_detection_writes_the_annotated_image_if_there_is_no_screen(
    legacy: Command, data: Path, tmp_path: Path
) -> None:
    done = legacy("processor", "detection", "-i", "img.jpg", "-s")
    assert (done.code, done.out) == (0, "")
    assert "no window" in done.err
    assert "img-detection.jpg" in done.err
    with Image.open(tmp_path / "img-detection.jpg") as shown, Image.open(tmp_path / "img.jpg") as given:
        assert shown.size == given.size
        assert np.abs(np.asarray(shown, dtype=int) - np.asarray(given, dtype=int)).max() > 100


def test_the_programs_run_as_modules_of_the_old_package() -> None:
    for name in PROGRAMS:
        done = subprocess.run(
            [sys.executable, "-m", f"videoAnalytics.{name}", "--help"],
            check=False,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, f"face-identity legacy {name}" in done.stdout) == (0, True)


def test_an_old_dataset_is_refused_with_the_next_step(
    legacy: Command, bare_command: Command, data: Path, tmp_path: Path
) -> None:
    """The default encoder has 128 numbers, the old models have 512."""
    (tmp_path / "old.json").write_text(json.dumps([["Ada", ",".join(["0.5"] * 512)]]))
    done = legacy("processor", "recognition", "-i", "img.jpg", "-d", "old.json", "-p", "--encoder", "dlib")
    imported = bare_command("import", "old.json", "--encoder", "dlib", "--gallery", "old")
    for refused in (done, imported):
        assert refused.code == 4
        assert "row 1: 512 numbers, but dlib has 128" in refused.err
        assert "face-identity models convert" in refused.err
        assert "LEGACY_ENCODER" in refused.err


def test_detection_takes_a_device_number(legacy: Command, data: Path, tmp_path: Path) -> None:
    assert legacy("processor", "detection", "-i", "img.jpg", "-s", "-dd", "-1").code == 0


@pytest.mark.parametrize(("flag", "setting"), [("-dd", "DETECTOR_LOAD_DEVICE"), ("-rd", "RECOGNIZER_LOAD_DEVICE")])
def test_a_gpu_is_refused_if_the_encoder_cannot_use_it(legacy: Command, data: Path, flag: str, setting: str) -> None:
    done = legacy("processor", "detection", "-i", "img.jpg", "-p", flag, "0")
    assert (done.code, done.out) == (7, "")
    assert f"{setting}=0: ENCODER=fake runs on the CPU only" in done.err


def test_detection_prints_the_boxes(legacy: Command, data: Path) -> None:
    done = legacy("processor", "detection", "-i", "img.jpg", "-s", "-dd", "-1", "-p")
    assert labels(done) == [[0, 1, 2]]
    assert {len(face["bbox"]) for face in done.json["faces"]} == {5}


def test_live_detection_reports_a_missing_camera(legacy: Command) -> None:
    done = legacy("processor", "detection", "-t", "-dd", "-1", "--camera", "97")
    assert done.code == 5
    assert "camera 97 cannot be opened" in done.err
    assert len(done.err.splitlines()) == 1


def test_live_detection_prints_the_faces_of_every_frame(legacy: Command, camera: Path, tmp_path: Path) -> None:
    done = legacy("processor", "detection", "-t", "-dd", "-1", "-p", "--camera", camera)
    assert labels(done) == [[0], [0], [0]]
    assert "no window" in done.err
    assert (tmp_path / "camera-detection.jpg").read_bytes().startswith(b"\xff\xd8")


def test_detection_without_an_image_takes_one_with_the_camera(legacy: Command, camera: Path) -> None:
    assert labels(legacy("processor", "detection", "-p", "--camera", camera)) == [[0]]
    done = legacy("processor", "detection", "-p", "--camera", "97")
    assert (done.code, "camera 97" in done.err) == (5, True)


def test_the_encoder_reads_images_from_a_json_argument(legacy: Command, data: Path) -> None:
    people = {"person1": ["data/person1/person1_1.jpg", "data/person1/person1_2.jpg"], "person2": ["img.jpg"]}
    done = legacy("encoder", "-i", json.dumps(people))
    assert {name: [entry["img"] for entry in entries] for name, entries in done.json.items()} == people
    assert {len(entry["embedding"]) for entries in done.json.values() for entry in entries} == {512}


def test_the_encoder_writes_a_file_and_prints_only_on_request(legacy: Command, data: Path, tmp_path: Path) -> None:
    people = json.dumps({"person1": ["data/person1/person1_1.jpg"]})
    done = legacy("encoder", "-i", people, "-dd", "-1", "-rd", "-1", "-o", "out.json", "-p")
    assert json.loads((tmp_path / "out.json").read_text()) == done.json
    assert legacy("encoder", "-i", people, "-o", "silent.json", "-v").out == ""


@pytest.mark.parametrize("flag", ["-p", "-ip"])
def test_the_encoder_reads_a_folder_of_people(legacy: Command, data: Path, tmp_path: Path, flag: str) -> None:
    assert legacy("encoder", flag, data, "-o", "out.json").code == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert {name: len(entries) for name, entries in written.items()} == {"person1": 2, "person2": 1}


def test_the_encoder_writes_the_format_of_the_readme_on_request(legacy: Command, data: Path, tmp_path: Path) -> None:
    legacy("encoder", "-p", data, "-o", "out.json", "--shape", "dataset")
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [name for name, _ in rows] == ["person1", "person1", "person2"]
    assert {len(numbers.split(",")) for _, numbers in rows} == {512}


def test_the_encoder_skips_images_without_a_face(legacy: Command, data: Path) -> None:
    done = legacy("encoder", "-i", json.dumps({"person1": ["nobody.jpg", "data/person1/person1_1.jpg"]}))
    assert (done.code, len(done.json["person1"])) == (0, 1)
    assert "nobody.jpg: no face" in done.err


def test_the_encoder_names_images_that_it_cannot_read(legacy: Command, data: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    done = legacy("encoder", "-i", json.dumps({"person1": ["missing.jpg", "text.jpg", "img.jpg"]}))
    assert (done.code, len(done.json["person1"])) == (3, 1)
    assert "missing.jpg" in done.err
    assert "text.jpg" in done.err


@pytest.mark.parametrize("text", ["[", "[]", '{"a": "b.jpg"}', '{"a": [1]}'])
def test_the_encoder_refuses_a_json_argument_of_another_form(legacy: Command, text: str) -> None:
    done = legacy("encoder", "-i", text)
    assert (done.code, done.out) == (4, "")
    assert "-i" in done.err


def test_recognition_writes_the_annotated_image(legacy: Command, dataset: Path, tmp_path: Path) -> None:
    done = legacy("processor", "recognition", "-i", "img.jpg", "-d", dataset, "-s")
    assert done.code == 0
    assert (tmp_path / "img-recognition.jpg").exists()


def test_recognition_on_devices_prints_labels(legacy: Command, dataset: Path) -> None:
    done = legacy("processor", "recognition", "-i", "img.jpg", "-d", dataset, "-s", "-dd", "-1", "-rd", "-1", "-p")
    assert labels(done) == [["person2", "Uknown", "person1"]]


def test_recognition_of_an_image_without_a_face_prints_no_labels(legacy: Command, dataset: Path) -> None:
    assert labels(legacy("processor", "recognition", "-i", "nobody.jpg", "-d", dataset, "-p")) == [[]]


def test_live_recognition_prints_the_labels_of_every_frame(legacy: Command, dataset: Path, camera: Path) -> None:
    done = legacy("processor", "recognition", "-t", "-d", dataset, "-dd", "-1", "-rd", "-1", "-p", "--camera", camera)
    assert labels(done) == [["person1"]] * 3


def test_recognition_needs_a_dataset(legacy: Command, data: Path) -> None:
    done = legacy("processor", "recognition", "-i", "img.jpg")
    assert (done.code, "-d DATASET" in done.err) == (2, True)
    assert legacy("processor", "recognition", "-i", "img.jpg", "-d", "missing.json").code == 5


@pytest.mark.parametrize("shape", ["dataset", "image", "bare"])
def test_recognition_reads_every_format_of_a_dataset(
    legacy: Command, dataset: Path, tmp_path: Path, shape: str
) -> None:
    encoded = json.loads(dataset.read_text())
    shapes: dict[str, Any] = {
        "dataset": [
            [name, ",".join(map(str, entry["embedding"]))] for name, entries in encoded.items() for entry in entries
        ],
        "image": {"person2": [{"image": 0, "embedding": encoded["person2"][0]["embedding"]}]},
        "bare": encoded["person2"][0]["embedding"],
    }
    (tmp_path / "person2.json").write_text(json.dumps(shapes[shape]))
    done = legacy("processor", "recognition", "-i", "img.jpg", "-d", "person2.json", "-p")
    assert labels(done) == [["person2", "Uknown", "person1" if shape == "dataset" else "Uknown"]]


def test_a_dataset_of_another_encoder_is_refused(legacy: Command, data: Path, tmp_path: Path) -> None:
    (tmp_path / "short.json").write_text('[["a", "0.1,0.2"]]')
    done = legacy("processor", "recognition", "-i", "img.jpg", "-d", "short.json", "-p")
    assert done.code == 4
    assert "row 1" in done.err
    assert "fake" in done.err


@pytest.mark.parametrize(
    "arguments",
    [["processor"], ["processor", "other"], ["processor", "detection", "-dd", "x"], ["encoder"], ["capture"]],
)
def test_a_wrong_command_line_prints_the_usage(legacy: Command, arguments: list[str]) -> None:
    done = legacy(*arguments)
    assert done.code == 2
    assert "usage: face-identity legacy" in done.err


def capture(folder: Path, camera: Path, keys: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `capture.py` with keys typed on standard input."""
    return subprocess.run(
        [sys.executable, SCRIPTS / "capture.py", "-p", "captured", "--camera", camera, *arguments],
        check=False,
        cwd=folder,
        env={"PATH": ""},
        input=keys,
        capture_output=True,
        text=True,
    )


def test_capture_saves_the_images_of_each_person_in_a_folder(camera: Path, tmp_path: Path) -> None:
    done = capture(tmp_path, camera, "s\nn\nBob\n", "-n", "Ada")
    assert done.returncode == 0, done.stderr
    assert "no window" in done.stderr
    (saved,) = (tmp_path / "captured" / "Ada").iterdir()
    assert saved.name.startswith("Ada")
    assert saved.suffix == ".jpg"
    with Image.open(saved) as image:
        assert image.size == (256, 256)
    assert (tmp_path / "captured" / "Bob").is_dir()


def test_capture_brightens_images_and_quits_on_request(camera: Path, tmp_path: Path) -> None:
    done = capture(tmp_path, camera, "Ada\ng\ns\nq\n")
    assert done.returncode == 0, done.stderr
    (bright,) = (tmp_path / "captured" / "Ada").iterdir()
    plain = capture(tmp_path, camera, "Eve\ns\nq\n")
    (dark,) = (tmp_path / "captured" / "Eve").iterdir()
    assert np.asarray(Image.open(bright)).mean() > np.asarray(Image.open(dark)).mean() + 10
    assert plain.returncode == 0


def test_capture_refuses_a_name_outside_the_folder(camera: Path, tmp_path: Path) -> None:
    done = capture(tmp_path, camera, "", "-n", "../elsewhere")
    assert done.returncode == 4
    assert not (tmp_path / "elsewhere").exists()


def test_capture_reports_a_missing_camera(tmp_path: Path) -> None:
    done = capture(tmp_path, Path("97"), "q\n", "-n", "Ada")
    assert (done.returncode, "camera 97" in done.stderr) == (5, True)


def test_the_programs_exist_at_their_old_paths() -> None:
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(PROGRAMS)
    for name in PROGRAMS:
        done = subprocess.run(
            [sys.executable, SCRIPTS / f"{name}.py", "-h"], check=False, capture_output=True, text=True
        )
        assert (done.returncode, f"usage: face-identity legacy {name}" in done.stdout) == (0, True)
