"""The recognizer as a module, and the examples in docs/as-a-module.md."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import face_identity
from face_identity import Recognizer, References
from service.encoder.fake_pictures import draw_nobody, draw_people, people_pixels
from service.errors import EmbeddingSpaceMismatch, InvalidRequest, NoFaceFound, NotFound, UnreadableImage
from service.recognizer import ImageInput
from tests.support.waiting import GUARD_SECONDS

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "as-a-module.md").read_text(), re.DOTALL)


@pytest.fixture
def recognizer() -> Iterator[Recognizer]:
    """With the fake encoder."""
    with Recognizer("fake") as opened:
        yield opened


def test_faces_are_detected_in_an_array(recognizer: Recognizer) -> None:
    faces = recognizer.detect(people_pixels(["ada", "bob"]))
    assert [round(face.box.left / 100) for face in faces] == [0, 3]
    assert recognizer.detect(people_pixels([])) == []


def test_an_array_and_its_file_give_the_same_embedding(recognizer: Recognizer, tmp_path: Path) -> None:
    file = draw_people(["ada"], format="PNG")
    (tmp_path / "ada.png").write_bytes(file)
    pictures: list[ImageInput] = [people_pixels(["ada"]), file, tmp_path / "ada.png"]
    one, *others = [recognizer.encode(picture)[0].embedding for picture in pictures]
    assert one.shape == (recognizer.space.dimension,)
    for other in others:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("legacy_vote", [False, True])
def test_people_are_recognized_and_a_stranger_is_not(recognizer: Recognizer, legacy_vote: bool) -> None:
    references = recognizer.enroll({"Ada": [draw_people(["ada"], variation=1)], "Bob": [draw_people(["bob"])]})
    picture = people_pixels(["bob", "stranger", "ada"], variation=2)
    found = recognizer.recognize(picture, references, legacy_vote=legacy_vote)
    assert [face.name for face in found] == ["Bob", None, "Ada"]
    assert found[0].similarity > 0.9
    assert found[1].similarity < recognizer.space.threshold


def test_the_threshold_decides(recognizer: Recognizer) -> None:
    references = recognizer.enroll({"Ada": [draw_people(["ada"])]})
    picture = people_pixels(["ada"], variation=3)
    assert recognizer.recognize(picture, references, threshold=1.0)[0].name is None
    assert recognizer.recognize(people_pixels(["other"]), references, threshold=0.0)[0].name == "Ada"


def test_without_references_everybody_is_a_stranger(recognizer: Recognizer) -> None:
    nobody = References.of(recognizer.space, [])
    assert [face.name for face in recognizer.recognize(people_pixels(["ada"]), nobody)] == [None]
    assert recognizer.recognize(people_pixels([]), nobody) == []
    voted = recognizer.recognize(people_pixels(["ada"]), nobody, legacy_vote=True)
    assert [face.name for face in voted] == [None]


def test_a_dataset_file_is_taken_in_place_of_pictures(recognizer: Recognizer, tmp_path: Path) -> None:
    embedding = recognizer.encode(people_pixels(["ada"]))[0].embedding.tolist()
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps([["Ada", ",".join(map(str, embedding))]]))
    references = recognizer.read_references(path)
    assert recognizer.recognize(people_pixels(["ada"], variation=4), references)[0].name == "Ada"
    with pytest.raises(NotFound):
        recognizer.read_references(tmp_path / "missing.json")


def test_references_of_another_space_are_refused(recognizer: Recognizer) -> None:
    with Recognizer("dlib") as other:
        references = References.of(other.space, [("Ada", np.ones(other.space.dimension, dtype=np.float32))])
    with pytest.raises(EmbeddingSpaceMismatch, match=r"dlib.*fake"):
        recognizer.recognize(people_pixels(["ada"]), references)


def test_what_cannot_be_used_is_refused(recognizer: Recognizer) -> None:
    with pytest.raises(InvalidRequest, match="float64"):
        recognizer.detect(np.zeros((10, 10, 3)))  # type: ignore[arg-type]  # the mistake that the test makes
    with pytest.raises(InvalidRequest, match="shape"):
        recognizer.detect(np.zeros((10, 10), dtype=np.uint8))
    with pytest.raises(UnreadableImage):
        recognizer.detect(draw_people(["ada"])[:500])
    with pytest.raises(NoFaceFound, match=r"image 1 .*'Ada'"):
        recognizer.enroll({"Ada": [draw_people(["ada"]), draw_nobody()]})


def test_there_are_three_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_of_the_documentation_run(number: int, tmp_path: Path) -> None:
    for name, people in {"ada": ["ada"], "bob": ["bob"], "group": ["bob", "stranger", "ada"]}.items():
        (tmp_path / f"{name}.jpg").write_bytes(draw_people(people))
    done = run(tmp_path, EXAMPLES[number])
    assert done.returncode == 0, done.stderr
    assert ["Box", "(512,) fake", "Bob"][number] in done.stdout
    assert len(done.stdout.splitlines()) == [3, 1, 3][number]


def test_help_shows_the_classes_and_their_methods(tmp_path: Path) -> None:
    done = run(tmp_path, "import face_identity; help(face_identity)")
    assert done.returncode == 0, done.stderr
    for name in ("class RecognizedFace", "class Recognizer", "class References", "read_references(self, path"):
        assert name in done.stdout


def test_the_package_has_type_hints() -> None:
    for package in ("face_identity", "service"):
        assert (REPOSITORY / package / "py.typed").exists()


def test_an_unknown_name_is_no_attribute_of_the_package() -> None:
    with pytest.raises(AttributeError, match="face_identity"):
        _ = face_identity.recognizer


def test_a_package_named_service_of_the_application_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").touch()
    done = run(tmp_path, "import face_identity")
    assert done.returncode == 1
    assert f"ImportError: face_identity needs its own package `service`, but Python found another one: {tmp_path}" in (
        done.stderr
    )


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program of an application in that folder, with the fake encoder."""
    environment = {"FACE_IDENTITY_ENCODER": "fake", "PYTHONPATH": str(REPOSITORY), "PATH": "", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
    )
