"""Runs every command of docs/migrating-from-the-legacy-recognizer.md with a detector and photographs of the tests.

`make` is left out, because it would install the packages again. The recognition model returns 128 numbers instead of
the 512 of the guide.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.folders import opened
from tests.support.legacy_models import DETECTOR, RECOGNIZER, LegacyPair, draw_boards, jpeg_of
from tests.support.server import ServerProcess
from tests.support.waiting import GUARD_SECONDS

REPOSITORY = Path(__file__).parents[2]
GUIDE = (REPOSITORY / "docs" / "migrating-from-the-legacy-recognizer.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)
INSTALL, DATASET, MODELS, SERVE, CALLERS, KEYS, NAMED_GALLERY, FLAGS, CAPTURE = BLOCKS
PEOPLE = ("Ada", "Grace")
LABELS_OF_GROUP = {*PEOPLE, "Uknown"}


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, made_legacy_pair: LegacyPair) -> Iterator[ServerProcess]:
    """A machine with the old models in their folder, images of two people, and the dataset of their old embeddings."""
    home = opened(tmp_path_factory.mktemp("home"))
    machine = ServerProcess(home, HOME=str(home), ENCODER="", LEGACY_API="open")
    programs = str(Path(sys.executable).parent)
    machine.environment["PATH"] = f"{programs}{os.pathsep}{machine.environment['PATH']}"
    shutil.copytree(made_legacy_pair.mxnet, home / ".insightface/models" / DETECTOR)
    (home / "legacy").mkdir()
    shutil.copy(made_legacy_pair.folder / RECOGNIZER, home / "legacy")
    for name in PEOPLE:
        (home / "data" / name).mkdir(parents=True)
        for number, image in enumerate(made_legacy_pair.photographs[name]):
            (home / "data" / name / f"{number}.jpg").write_bytes(image)
    for file, image in zip(("ada.jpg", "ada2.jpg"), made_legacy_pair.photographs[PEOPLE[0]], strict=False):
        (home / file).write_bytes(image)
    group = draw_boards({PEOPLE[0]: 0, PEOPLE[1]: 11, made_legacy_pair.strangers[0]: 22}, variation=4)
    (home / "group.jpg").write_bytes(jpeg_of(group))
    (home / "videoAnalytics").symlink_to(REPOSITORY / "videoAnalytics")
    write_old_dataset(machine)
    yield machine
    machine.close()


def write_old_dataset(machine: ServerProcess) -> None:
    """Write the data of the legacy recognizer: embeddings of padded crops, and models that are not converted yet."""
    home = machine.folder
    machine.command("models", "convert", str(home / ".insightface/models"), "--out", str(home / "once"))
    shutil.copy(home / "legacy" / RECOGNIZER, home / "once")
    encoder = f"legacy-padded-crop:{home / 'once'}"
    machine.command("legacy", "encoder", "-p", "data", "-o", "dataset.json", "--shape", "dataset", "--encoder", encoder)
    shutil.rmtree(home / "once")


def run(machine: ServerProcess, script: str, *, fails: int = 0) -> list[str]:
    """Return the output of each line of the script. The first line that fails ends it."""
    lines = re.sub(r"(?m)^(?!export|URL|KEY)(?=\S)", "echo @@@\n", script)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines.replace("127.0.0.1:5000", f"127.0.0.1:{machine.port}")],
        check=False,
        cwd=machine.folder,
        env=machine.environment,
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
    )
    assert done.returncode == fails, done.stdout + done.stderr
    return [printed.strip() for printed in done.stdout.split("@@@")[1:]] if not fails else [done.stderr]


def test_the_guide_begins_with_dataset_models_callers_and_flags() -> None:
    assert re.findall(r"^## (.*)$", GUIDE, re.MULTILINE)[:4] == [
        "1. The dataset",
        "2. The models",
        "3. The callers",
        "4. The flags",
    ]
    assert INSTALL.splitlines()[0] == "make install"


def test_an_imported_dataset_is_exported_without_changes(operator: ServerProcess) -> None:
    run(operator, DATASET.replace(":512", ":128"))
    old, again = (json.loads((operator.folder / name).read_text()) for name in ("dataset.json", "again.json"))
    assert [name for name, _ in old] == [name for name, _ in again]
    assert numbers(old) == numbers(again)


def numbers(dataset: list[list[str]]) -> list[list[float]]:
    return [[float(number) for number in text.split(",")] for _, text in dataset]


def test_the_converted_models_recognize_people(operator: ServerProcess) -> None:
    *_, recognized = run(operator, MODELS)
    assert {path.name for path in (operator.folder / "legacy").iterdir()} == {DETECTOR, RECOGNIZER}
    assert [name in recognized for name in PEOPLE] == [True, True]


@pytest.fixture(scope="module")
def converted(operator: ServerProcess) -> ServerProcess:
    """The machine after the guide's second part: its models are converted, whichever test runs first."""
    run(operator, MODELS)
    operator.environment["LEGACY_ENCODER"] = f"legacy-padded-crop:{operator.folder / 'legacy'}"
    return operator


@pytest.fixture(scope="module")
def served(converted: ServerProcess) -> ServerProcess:
    """The server of the guide, on another port."""
    assert SERVE.strip() == "LEGACY_API=open face-identity serve --host 0.0.0.0 --port 5000"
    return converted.start()


def labels(printed: str) -> list[Any]:
    return [face["label"] for face in json.loads(printed)["faces"]]


def test_the_requests_of_the_callers_are_answered(served: ServerProcess) -> None:
    detected, encoded, several, recognized = run(served, CALLERS)
    assert labels(detected) == [0, 1, 2]
    assert len(json.loads(encoded)) == 128
    assert [entry["img"] for entry in json.loads(several)["ada"]] == [0, 1]
    assert (len(labels(recognized)), set(labels(recognized))) == (3, LABELS_OF_GROUP)


def test_a_caller_can_send_a_key_in_the_address_and_name_a_gallery(served: ServerProcess) -> None:
    run(served, CALLERS)  # the first of these requests creates the callers' tenant
    (detected,) = run(served, KEYS)
    assert labels(detected) == [0, 1, 2]
    *_, named = run(served, f"URL=http://127.0.0.1:{served.port}\n" + NAMED_GALLERY)
    (*_, uploaded) = run(served, CALLERS)
    assert labels(named) == labels(uploaded)


def test_the_programs_accept_their_old_flags(converted: ServerProcess) -> None:
    detected, _, _, *recognized = run(converted, FLAGS)
    assert labels(detected) == [0, 1, 2]
    assert [labels(printed) for printed in recognized] == 3 * [labels(recognized[0])]
    assert set(json.loads((converted.folder / "people.json").read_text())) == set(PEOPLE)
    assert len(json.loads((converted.folder / "ada.json").read_text())["ada"]) == 2
    assert (converted.folder / "group-recognition.jpg").read_bytes().startswith(b"\xff\xd8")


def test_capture_reports_that_there_is_no_camera(operator: ServerProcess) -> None:
    if Path("/dev/video0").exists():
        pytest.skip("left out: this machine has a camera")
    (told,) = run(operator, CAPTURE, fails=5)
    assert "camera 0 cannot be opened" in told
