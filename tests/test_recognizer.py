"""The recognizer as a module, and the examples in docs/as-a-module.md."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import face_identity
from face_identity import Recognizer, References
from service.encoder.fake_pictures import draw_nobody, draw_people, people_pixels
from service.encoder.images.pictures import ImageInput
from service.errors import (
    EmbeddingSpaceMismatch,
    FaceBlurred,
    ImageTooLarge,
    InvalidRequest,
    NoFaceFound,
    NotFound,
    UnreadableImage,
)
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


@pytest.mark.parametrize("kind", ["str", "path", "bytes", "bytearray", "memoryview", "BytesIO", "file", "PIL", "array"])
def test_a_picture_may_be_given_in_many_ways(recognizer: Recognizer, tmp_path: Path, kind: str) -> None:
    file, path = draw_people(["ada"], format="PNG"), tmp_path / "ada.png"
    path.write_bytes(file)
    with path.open("rb") as opened, Image.open(path) as image:
        pictures: dict[str, ImageInput] = {
            **{"str": str(path), "path": path, "bytes": file, "bytearray": bytearray(file), "file": opened},
            **{"memoryview": memoryview(file), "BytesIO": io.BytesIO(file), "PIL": image},
            "array": people_pixels(["ada"]),
        }
        expected = recognizer.encode(file)[0].embedding
        np.testing.assert_array_equal(recognizer.encode(pictures[kind])[0].embedding, expected)


@pytest.mark.parametrize("wrong", [None, 7, ["a.jpg"], io.StringIO("text")])
def test_anything_else_is_a_type_error_that_says_what_a_picture_is(recognizer: Recognizer, wrong: object) -> None:
    with pytest.raises(TypeError, match=r"a picture is a path .* PIL\.Image\.Image, or a NumPy array of uint8"):
        recognizer.detect(wrong)  # type: ignore[arg-type]  # the mistake that the test makes
    with pytest.raises(TypeError, match="a picture is a path"):
        recognizer.enroll({"Ada": [wrong]})  # type: ignore[list-item]


def test_an_image_of_pillow_is_read_as_its_file(recognizer: Recognizer, tmp_path: Path) -> None:
    """Turned upright by its EXIF orientation, and within the limit of pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(people_pixels(["ada"]))).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert recognizer.detect(image) == recognizer.detect(tmp_path / "turned.png") != []
    with pytest.raises(ImageTooLarge):
        recognizer.detect(Image.new("L", (20_000, 20_000)))


def test_a_named_pipe_is_refused_and_not_waited_for(recognizer: Recognizer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage, match="regular file"):
        recognizer.detect(tmp_path / "pipe.jpg")
    with pytest.raises(FileNotFoundError):
        recognizer.detect("missing.jpg")


def test_pictures_that_cannot_be_used_are_listed_and_the_others_are_enrolled(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    (tmp_path / "nobody.png").write_bytes(draw_nobody())
    references = recognizer.enroll(
        {
            "Ada": [draw_people(["ada"]), tmp_path / "nobody.png", draw_people(["ada", "bob"])],
            "Bob": tmp_path / "missing.png",
            "Cleo": draw_people(["cleo"]),
        }
    )
    assert references.names == ["Ada", "Cleo"]
    assert [(each.name, each.index, Path(each.path).name, each.reason) for each in references.rejected] == [
        ("Ada", 1, "nobody.png", "no-face-found"),
        ("Ada", 2, "", "several-faces"),
        ("Bob", 0, "missing.png", "unreadable-image"),
    ]
    assert "No such file" in references.rejected[2].detail
    largest = recognizer.enroll({"Ada": draw_people(["ada", "bob"])}, several="largest")
    assert (largest.names, largest.rejected) == (["Ada"], ())


def test_if_no_picture_can_be_used_the_first_reason_is_raised(recognizer: Recognizer) -> None:
    with pytest.raises(NoFaceFound, match=r"image 0 .*'Ada'"):
        recognizer.enroll({"Ada": [draw_nobody()]})
    assert len(recognizer.enroll({})) == 0


def test_references_are_saved_loaded_and_added_to(recognizer: Recognizer, tmp_path: Path) -> None:
    file = tmp_path / "references.ndjson"
    saved = recognizer.enroll({"Ada": draw_people(["ada"]), "Zoë": draw_people(["zoe"])})
    saved.save(file)
    for loaded in (References.load(file), References.load(file, recognizer.space), recognizer.read_references(file)):
        assert (loaded.names, loaded.space) == (saved.names, recognizer.space)
        np.testing.assert_array_equal(loaded.embeddings, saved.embeddings)
    more = loaded + recognizer.enroll({"Bob": draw_people(["bob"])})
    assert more.names == ["Ada", "Zoë", "Bob"]
    assert recognizer.recognize(people_pixels(["bob"], variation=2), more)[0].name == "Bob"
    assert more.without("Ada").names == ["Zoë", "Bob"]
    with pytest.raises(NotFound, match="'Eve'"):
        more.without("Eve")
    assert file.stat().st_mode & 0o777 == 0o600


def test_saved_references_of_another_encoder_are_refused(recognizer: Recognizer, tmp_path: Path) -> None:
    other = replace(recognizer.space, name="other", digest="0" * 64)
    file = tmp_path / "references.ndjson"
    References.of(other, [("Ada", np.ones(other.dimension, dtype=np.float32))]).save(file)
    with pytest.raises(EmbeddingSpaceMismatch, match=r"made with other, not with fake"):
        recognizer.read_references(file)
    with pytest.raises(EmbeddingSpaceMismatch):
        _ = References.load(file) + References.of(recognizer.space, [])
    (tmp_path / "plain.json").write_text('{"Ada": []}')
    with pytest.raises(InvalidRequest, match="which encoder"):
        References.load(tmp_path / "plain.json")


def test_printing_shows_no_embedding_and_no_name(recognizer: Recognizer) -> None:
    references = recognizer.enroll({"Ada": draw_people(["ada"])})
    assert str(references) == repr(references) == "<References: 1 of 1 people, fake>"
    assert "embedding" not in repr(recognizer.encode(draw_people(["ada"])))


def test_one_person_is_verified(recognizer: Recognizer) -> None:
    references = recognizer.enroll({"Ada": draw_people(["ada"]), "Bob": draw_people(["bob"])})
    picture = draw_people(["ada"], variation=2)
    same, other = (recognizer.verify(picture, name, references) for name in ("Ada", "Bob"))
    assert (same.is_match, other.is_match) == (True, False)
    assert same.similarity > recognizer.space.threshold == same.threshold > other.similarity
    assert not recognizer.verify(picture, "Ada", references, threshold=1.0).is_match
    with pytest.raises(NotFound, match="'Eve'"):
        recognizer.verify(picture, "Eve", references)
    with pytest.raises(NoFaceFound):
        recognizer.verify(draw_nobody(), "Ada", references)


def test_two_pictures_are_compared(recognizer: Recognizer) -> None:
    ada, bob = draw_people(["ada"]), draw_people(["bob"])
    same, other = recognizer.compare(ada, draw_people(["ada"], variation=3)), recognizer.compare(ada, bob)
    assert (same.is_match, other.is_match) == (True, False)
    assert same.first.box.width == same.first.box.right - same.first.box.left > 0
    assert same.second.box.height > 0
    with pytest.raises(NoFaceFound, match="second picture"):
        recognizer.compare(ada, draw_nobody())
    with pytest.raises(InvalidRequest, match="threshold"):
        recognizer.compare(ada, bob, threshold=2.0)


def test_a_useless_face_is_neither_enrolled_nor_compared(recognizer: Recognizer) -> None:
    blurred = np.asarray(cv2.GaussianBlur(people_pixels(["ada"]), (0, 0), 12))
    references = recognizer.enroll({"Ada": [draw_people(["ada"]), blurred]})
    assert [(rejected.index, rejected.reason) for rejected in references.rejected] == [(1, "face-blurred")]
    (face,) = recognizer.recognize(blurred, references)
    assert (face.name, face.similarity, face.reason) == (None, 0.0, "face-blurred")
    with pytest.raises(FaceBlurred, match=r"image 0 .*'Ada': face-blurred"):
        recognizer.enroll({"Ada": [blurred]})
    with pytest.raises(FaceBlurred, match="the picture"):
        recognizer.verify(blurred, "Ada", references)
    with pytest.raises(FaceBlurred, match="the second picture"):
        recognizer.compare(people_pixels(["ada"]), blurred)


def test_there_are_five_examples() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_of_the_documentation_run(number: int, tmp_path: Path) -> None:
    for name, people in {"ada": ["ada"], "bob": ["bob"], "group": ["bob", "stranger", "ada"]}.items():
        (tmp_path / f"{name}.jpg").write_bytes(draw_people(people))
    done = run(tmp_path, EXAMPLES[number])
    assert done.returncode == 0, done.stderr
    assert ["Box", "(512,) fake", "Bob", "True", "2 of 2 people"][number] in done.stdout
    assert len(done.stdout.splitlines()) == [3, 1, 3, 2, 1][number]


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
