"""`enroll`, `recognize`, `verify`, `compare`, `detect` and `encode` on pictures of the shipped fake encoder."""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from service.encoder.fake_pictures import draw_nobody, draw_people
from tests.cli.conftest import Command
from tests.cli.test_command_line import PROGRAM


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder for each of two people with two pictures, and a picture of both with a stranger."""
    for name in ("ada", "bob"):
        (tmp_path / "people" / name).mkdir(parents=True)
        for number in (1, 2):
            picture = draw_people([name], variation=number)
            (tmp_path / "people" / name / f"{number}.jpg").write_bytes(picture)
    (tmp_path / "three.jpg").write_bytes(draw_people(["bob", "zoe", "ada"], variation=9))
    (tmp_path / "nobody.jpg").write_bytes(draw_nobody())
    (tmp_path / "text.jpg").write_text("this is no picture")
    return tmp_path


def test_a_folder_of_folders_is_enrolled_and_recognized(command: Command, pictures: Path) -> None:
    done = command("enroll", "people", "--json").json
    assert [(person["name"], person["faces"]) for person in done["people"]] == [("ada", 2), ("bob", 2)]
    assert (done["faces"], done["rejected"]) == (4, [])
    faces = command("recognize", "three.jpg", "--json").json["faces"]
    faces.sort(key=lambda face: face["box"]["left"])
    assert [face["match"] and face["match"]["person"]["name"] for face in faces] == ["bob", None, "ada"]
    assert [face["decision"] for face in faces] == ["match", "no_match", "match"]


def test_a_picture_is_of_the_person_it_is_named_after(command: Command, pictures: Path) -> None:
    (pictures / "Cleo.jpg").write_bytes(draw_people(["cleo"]))
    assert [one["name"] for one in command("enroll", "Cleo.jpg", "--json").json["people"]] == ["Cleo"]


def test_a_folder_of_pictures_is_one_person(command: Command, pictures: Path) -> None:
    made = command("enroll", "people/ada", "--json").json
    assert [(one["name"], one["faces"]) for one in made["people"]] == [("ada", 2)]


def test_a_name_takes_all_pictures(command: Command, pictures: Path) -> None:
    made = command("enroll", "people/ada", "people/bob/1.jpg", "--name", "Both", "--json").json
    assert [(one["name"], one["faces"]) for one in made["people"]] == [("Both", 3)]


def test_a_picture_that_cannot_be_used_is_named_and_the_rest_enrolled(command: Command, pictures: Path) -> None:
    done = command("enroll", "people/ada/1.jpg", "text.jpg", "nobody.jpg", "three.jpg", "--name", "Ada", "--json")
    assert done.code == 3
    assert {one["image"]: one["reason"] for one in done.json["rejected"]} == {
        "text.jpg": "unsupported-image-format",
        "nobody.jpg": "no-face-found",
        "three.jpg": "several-faces",
    }
    assert command("people", "show", "Ada", "--json").json["faces"] == 1


def test_where_no_picture_can_be_used_nobody_is_left_behind(command: Command, pictures: Path) -> None:
    done = command("enroll", "text.jpg", "nobody.jpg")
    assert done.code == 4
    assert "text.jpg" in done.err
    assert "nobody.jpg" in done.err
    assert command("people", "list", "--json").json["items"] == []


def test_a_picture_beside_folders_of_people_is_nobody_s(command: Command, pictures: Path) -> None:
    (pictures / "people" / "stray.jpg").write_bytes(draw_people(["zoe"]))
    done = command("enroll", "people", "--json")
    assert done.code == 3
    assert [(one["image"], one["reason"]) for one in done.json["rejected"]] == [("stray.jpg", "no-person")]


def test_enrolling_again_adds_nothing_and_is_no_failure(command: Command, pictures: Path) -> None:
    command("enroll", "people")
    assert command("enroll", "people").code == 0
    assert command("galleries", "show", "default", "--json").json["faces"] == 4


def test_a_gallery_of_another_space_is_not_mixed(command: Command, pictures: Path) -> None:
    command("galleries", "create", "default", "--embedding-space", "external:arcface:512")
    done = command("enroll", "people")
    assert done.code == 6
    assert "external:arcface:512" in done.err
    assert command("enroll", "people", "--encoder", "fake").code == 6
    assert command("people", "list", "--json").json["items"] == []


def test_a_person_is_verified_and_another_is_not(command: Command, pictures: Path) -> None:
    command("enroll", "people/ada/1.jpg", "--name", "Ada")
    yes, no = command("verify", "Ada", "people/ada/2.jpg", "--json"), command("verify", "Ada", "people/bob/1.jpg")
    assert (yes.code, yes.json["verified"]) == (0, True)
    assert (no.code, "is not Ada" in no.out) == (1, True)


def test_a_higher_threshold_asks_for_more(command: Command, pictures: Path) -> None:
    command("enroll", "people/ada/1.jpg", "--name", "Ada")
    assert command("verify", "Ada", "people/ada/2.jpg", "--threshold", "1").code == 1
    assert command("recognize", "people/ada/2.jpg", "--threshold", "1", "--json").json["faces"][0]["match"] is None


def test_two_pictures_are_compared_without_a_gallery(bare_command: Command, pictures: Path) -> None:
    assert bare_command("compare", "people/ada/1.jpg", "people/ada/2.jpg").code == 0
    assert bare_command("compare", "people/ada/1.jpg", "people/bob/1.jpg", "--json").json["verified"] is False
    assert "text.jpg" in bare_command("compare", "people/ada/1.jpg", "text.jpg").err


def test_the_annotated_picture_is_as_large_as_the_picture(command: Command, pictures: Path) -> None:
    command("enroll", "people")
    assert command("recognize", "three.jpg", "--annotate", "out.jpg").code == 0
    before, after = Image.open("three.jpg"), Image.open("out.jpg")
    assert after.size == before.size
    assert after.tobytes() != before.tobytes()


def test_faces_are_found_without_a_database(pictures: Path) -> None:
    """DATA_DIR is a file, so a database could not be made there."""
    environment = {"DATA_DIR": str(pictures / "text.jpg"), "ENCODER": "fake"}
    for name in ("detect", "encode"):
        command = [PROGRAM, name, str(pictures / "three.jpg"), "--json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        assert len(json.loads(done.stdout)["faces"]) == 3, done.stderr


def test_an_encoded_picture_is_a_probe(bare_command: Command, command: Command, pictures: Path) -> None:
    command("enroll", "people")
    (pictures / "probes.json").write_text(bare_command("encode", "people/bob/2.jpg").out)
    (face,) = command("recognize", "probes.json", "--embedding", "--json").json["faces"]
    assert face["match"]["person"]["name"] == "bob"
    assert face["match"]["similarity"] == pytest.approx(1, abs=1e-3)
    assert face["box"] is None


def test_a_picture_without_a_face_is_an_answer(command: Command, pictures: Path) -> None:
    command("enroll", "people")
    done = command("recognize", "nobody.jpg")
    assert (done.code, "no face" in done.out) == (0, True)
    assert command("recognize", "nobody.jpg", "--json").json["faces"] == []


def test_a_missing_file_is_named(command: Command, pictures: Path) -> None:
    for arguments in (["enroll", "nix.jpg"], ["recognize", "nix.jpg"], ["verify", "Ada", "nix.jpg"]):
        done = command(*arguments)
        assert done.code == 5
        assert "nix.jpg" in done.err


def test_embeddings_are_printed_by_encode_alone(bare_command: Command, command: Command, pictures: Path) -> None:
    command("enroll", "people")
    (encoded,) = bare_command("encode", "people/ada/1.jpg", "--json").json["faces"]
    beginning = str(encoded["embedding"][0])[:8]
    assert beginning in bare_command("encode", "people/ada/1.jpg").out
    said = [command(*asked, "--json") for asked in (["recognize", "people/ada/1.jpg"], ["people", "faces", "ada"])]
    assert [done for done in said if beginning in done.out + done.err] == []


def test_a_picture_is_read_from_standard_input(pictures: Path) -> None:
    environment = {"ENCODER": "fake"}
    done = subprocess.run(
        [PROGRAM, "detect", "-"], check=False, capture_output=True, input=draw_people(["ada", "bob"]), env=environment
    )
    assert len(done.stdout.splitlines()) == 4  # two of them are the heading
