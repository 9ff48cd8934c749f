"""`enroll`, `recognize`, `verify`, `compare`, `detect` and `encode` on images of the shipped fake encoder."""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from service.encoder.fake_pictures import draw_nobody, draw_people
from tests.cli.conftest import Command
from tests.cli.test_command_line import PROGRAM


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with two images for each of two people, and an image of both with a stranger."""
    for name in ("ada", "bob"):
        (tmp_path / "people" / name).mkdir(parents=True)
        for number in (1, 2):
            image = draw_people([name], variation=number)
            (tmp_path / "people" / name / f"{number}.jpg").write_bytes(image)
    (tmp_path / "three.jpg").write_bytes(draw_people(["bob", "zoe", "ada"], variation=9))
    (tmp_path / "nobody.jpg").write_bytes(draw_nobody())
    (tmp_path / "text.jpg").write_text("this is not an image")
    return tmp_path


def test_a_folder_of_folders_is_enrolled_and_recognized(command: Command, images: Path) -> None:
    done = command("enroll", "people", "--json").json
    assert [(person["name"], person["faces"]) for person in done["people"]] == [("ada", 2), ("bob", 2)]
    assert (done["faces"], done["rejected"]) == (4, [])
    faces = command("recognize", "three.jpg", "--json").json["faces"]
    faces.sort(key=lambda face: face["box"]["left"])
    assert [face["match"] and face["match"]["person"]["name"] for face in faces] == ["bob", None, "ada"]
    assert [face["decision"] for face in faces] == ["match", "no_match", "match"]


def test_an_image_file_names_its_person(command: Command, images: Path) -> None:
    (images / "Cleo.jpg").write_bytes(draw_people(["cleo"]))
    assert [person["name"] for person in command("enroll", "Cleo.jpg", "--json").json["people"]] == ["Cleo"]


def test_a_folder_of_images_is_one_person(command: Command, images: Path) -> None:
    made = command("enroll", "people/ada", "--json").json
    assert [(person["name"], person["faces"]) for person in made["people"]] == [("ada", 2)]


def test_the_name_option_applies_to_all_images(command: Command, images: Path) -> None:
    made = command("enroll", "people/ada", "people/bob/1.jpg", "--name", "Both", "--json").json
    assert [(person["name"], person["faces"]) for person in made["people"]] == [("Both", 3)]


def test_a_rejected_image_is_named_and_the_others_are_enrolled(command: Command, images: Path) -> None:
    done = command("enroll", "people/ada/1.jpg", "text.jpg", "nobody.jpg", "three.jpg", "--name", "Ada", "--json")
    assert done.code == 3
    assert {rejection["image"]: rejection["reason"] for rejection in done.json["rejected"]} == {
        "text.jpg": "unsupported-image-format",
        "nobody.jpg": "no-face-found",
        "three.jpg": "several-faces",
    }
    assert command("people", "show", "Ada", "--json").json["faces"] == 1


def test_no_person_is_left_if_all_images_are_rejected(command: Command, images: Path) -> None:
    command("galleries", "create", "default")
    done = command("enroll", "text.jpg", "nobody.jpg")
    assert done.code == 4
    assert "text.jpg" in done.err
    assert "nobody.jpg" in done.err
    assert command("people", "list", "--json").json["items"] == []


def test_an_image_beside_folders_of_people_is_rejected(command: Command, images: Path) -> None:
    (images / "people" / "stray.jpg").write_bytes(draw_people(["zoe"]))
    done = command("enroll", "people", "--json")
    assert done.code == 3
    assert [(rejection["image"], rejection["reason"]) for rejection in done.json["rejected"]] == [
        ("stray.jpg", "no-person")
    ]


def test_enrolling_the_same_images_again_succeeds_and_adds_nothing(command: Command, images: Path) -> None:
    command("enroll", "people")
    assert command("enroll", "people").code == 0
    assert command("galleries", "show", "default", "--json").json["faces"] == 4


def test_a_gallery_of_another_embedding_space_is_refused(command: Command, images: Path) -> None:
    command("galleries", "create", "default", "--embedding-space", "external:arcface:512")
    done = command("enroll", "people")
    assert done.code == 6
    assert "external:arcface:512" in done.err
    assert command("enroll", "people", "--encoder", "fake").code == 6
    assert command("people", "list", "--json").json["items"] == []


def test_only_the_right_person_is_verified(command: Command, images: Path) -> None:
    command("enroll", "people/ada/1.jpg", "--name", "Ada")
    yes, no = command("verify", "Ada", "people/ada/2.jpg", "--json"), command("verify", "Ada", "people/bob/1.jpg")
    assert (yes.code, yes.json["verified"]) == (0, True)
    assert (no.code, "is not Ada" in no.out) == (1, True)


def test_a_higher_threshold_refuses_a_match(command: Command, images: Path) -> None:
    command("enroll", "people/ada/1.jpg", "--name", "Ada")
    assert command("verify", "Ada", "people/ada/2.jpg", "--threshold", "1").code == 1
    assert command("recognize", "people/ada/2.jpg", "--threshold", "1", "--json").json["faces"][0]["match"] is None


def test_two_images_are_compared_without_a_gallery(bare_command: Command, images: Path) -> None:
    assert bare_command("compare", "people/ada/1.jpg", "people/ada/2.jpg").code == 0
    compared = bare_command("compare", "people/ada/1.jpg", "people/bob/1.jpg", "--json").json
    assert compared["verified"] is False
    assert [face.keys() for face in compared["faces"]] == [{"box", "detection_score", "quality"}] * 2
    assert "text.jpg" in bare_command("compare", "people/ada/1.jpg", "text.jpg").err


def test_the_annotated_image_has_the_size_of_the_image(command: Command, images: Path) -> None:
    command("enroll", "people")
    assert command("recognize", "three.jpg", "--annotate", "out.jpg").code == 0
    before, after = Image.open("three.jpg"), Image.open("out.jpg")
    assert after.size == before.size
    assert after.tobytes() != before.tobytes()


@pytest.mark.parametrize(("ending", "format"), [("jpeg", "JPEG"), ("PNG", "PNG"), ("webp", "WEBP")])
def test_the_ending_of_the_annotated_image_chooses_its_format(
    bare_command: Command, images: Path, ending: str, format: str
) -> None:
    assert bare_command("detect", "three.jpg", "--annotate", f"out.{ending}").code == 0
    with Image.open(f"out.{ending}") as image:
        assert image.format == format


@pytest.mark.parametrize(
    ("out", "code", "reason"),
    [("out", 4, "must end in .jpg"), ("out.gif", 4, "must end in .jpg"), ("no/out.jpg", 5, "no folder no")],
)
def test_an_annotated_image_that_cannot_be_written_is_refused_before_the_work(
    bare_command: Command, images: Path, out: str, code: int, reason: str
) -> None:
    for program in ("detect", "recognize"):
        done = bare_command(program, "missing.jpg", "--annotate", out)
        assert (done.code, reason in done.err) == (code, True)


def test_several_images_and_folders_are_recognized_with_one_line_of_json_each(command: Command, images: Path) -> None:
    command("enroll", "people")
    done = command("recognize", "three.jpg", "people/ada", "text.jpg", "nobody.jpg", "--json")
    assert done.code == 3
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [(line["image"], len(line.get("faces", [])), "error" in line) for line in lines] == [
        ("three.jpg", 3, False),
        ("people/ada/1.jpg", 1, False),
        ("people/ada/2.jpg", 1, False),
        ("nobody.jpg", 0, False),
        ("text.jpg", 0, True),
    ]
    assert lines[-1]["error"]["slug"] == "unsupported-image-format"
    shown = command("recognize", "people", "nobody.jpg")
    assert shown.code == 0
    assert [line.split()[0] for line in shown.out.splitlines()[2:]] == [
        *("people/ada/1.jpg", "people/ada/2.jpg", "people/bob/1.jpg", "people/bob/2.jpg", "nobody.jpg")
    ]
    assert command("recognize", "text.jpg", "text.jpg").code == 4
    assert command("recognize", "people", "--annotate", "out.jpg").code == 4


def test_the_table_says_why_a_face_is_not_decided_on(
    command: Command, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("enroll", "people")
    monkeypatch.setenv("RECOGNITION_REVIEW", "standard")
    with Image.open("people/ada/1.jpg") as image:
        image.point(lambda value: value // 5).save("dark.png")
    assert "no match (face-badly-lit)" in command("recognize", "dark.png").out


def test_detect_and_encode_need_no_database(images: Path) -> None:
    """DATA_DIR is a file, so no database can be created there."""
    environment = {"DATA_DIR": str(images / "text.jpg"), "ENCODER": "fake"}
    for name in ("detect", "encode"):
        command = [PROGRAM, name, str(images / "three.jpg"), "--json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        assert len(json.loads(done.stdout)["faces"]) == 3, done.stderr


def test_the_output_of_encode_is_a_probe(bare_command: Command, command: Command, images: Path) -> None:
    command("enroll", "people")
    (images / "probes.json").write_text(bare_command("encode", "people/bob/2.jpg").out)
    (face,) = command("recognize", "probes.json", "--embedding", "--json").json["faces"]
    assert face["match"]["person"]["name"] == "bob"
    assert face["match"]["similarity"] == pytest.approx(1, abs=1e-3)
    assert face["box"] is None


def test_an_image_without_a_face_is_a_result(command: Command, images: Path) -> None:
    command("enroll", "people")
    done = command("recognize", "nobody.jpg")
    assert (done.code, "no face" in done.out) == (0, True)
    assert command("recognize", "nobody.jpg", "--json").json["faces"] == []


def test_a_missing_file_is_named(command: Command, images: Path) -> None:
    for arguments in (["enroll", "nix.jpg"], ["recognize", "nix.jpg"], ["verify", "Ada", "nix.jpg"]):
        done = command(*arguments)
        assert done.code == 5
        assert "nix.jpg" in done.err


def test_only_encode_prints_embeddings(bare_command: Command, command: Command, images: Path) -> None:
    command("enroll", "people")
    (encoded,) = bare_command("encode", "people/ada/1.jpg", "--json").json["faces"]
    beginning = str(encoded["embedding"][0])[:8]
    assert beginning in bare_command("encode", "people/ada/1.jpg").out
    printed = [
        command(*arguments, "--json") for arguments in (["recognize", "people/ada/1.jpg"], ["people", "faces", "ada"])
    ]
    assert [done for done in printed if beginning in done.out + done.err] == []


def test_an_image_is_read_from_standard_input(images: Path) -> None:
    environment = {"ENCODER": "fake"}
    done = subprocess.run(
        [PROGRAM, "detect", "-"], check=False, capture_output=True, input=draw_people(["ada", "bob"]), env=environment
    )
    assert len(done.stdout.splitlines()) == 4  # two of the lines are the heading


def test_several_galleries_are_searched_together(command: Command, images: Path) -> None:
    command("enroll", "people/ada", "--gallery", "staff")
    command("enroll", "people/bob", "--gallery", "visitors")
    both = ["--gallery", "staff", "--gallery", "visitors"]
    faces = command("recognize", "three.jpg", *both, "--json").json["faces"]
    matches = {face["match"]["person"]["name"]: face["match"]["gallery"] for face in faces if face["match"]}
    assert matches == {"ada": "staff", "bob": "visitors"}
    shown = command("recognize", "three.jpg", *both, "--annotate", "out.jpg").out
    assert "ada (staff)" in shown
    assert "bob (visitors)" in shown
    assert (images / "out.jpg").read_bytes().startswith(b"\xff\xd8")
    assert command("recognize", "three.jpg", *both, "--gallery", "nowhere").code == 5
    command("galleries", "create", "old", "--embedding-space", "external:arcface:512")
    (images / "probe.json").write_text(str([0.5] * 512))
    mixed = command("recognize", "probe.json", "--embedding", "--gallery", "staff", "--gallery", "old")
    assert (mixed.code, "external:arcface:512" in mixed.err) == (6, True)


def test_one_gallery_is_not_named_in_the_result(command: Command, images: Path) -> None:
    command("enroll", "people/ada", "--gallery", "staff")
    (face,) = command("recognize", "people/ada/1.jpg", "--gallery", "staff", "--json").json["faces"]
    assert "gallery" not in face["match"]


def test_candidates_are_limited_by_metadata(command: Command, images: Path) -> None:
    command("enroll", "people")
    command("people", "update", "ada", "--metadata", '{"tags": ["vip"]}')
    (face,) = command("recognize", "people/bob/1.jpg", "--metadata", '{"tags": ["vip"]}', "--json").json["faces"]
    assert [candidate["person"]["name"] for candidate in face["candidates"]] == ["ada"]
    assert face["match"] is None
    wrong = command("recognize", "people/bob/1.jpg", "--metadata", "[]")
    assert (wrong.code, "--metadata" in wrong.err) == (4, True)


def test_the_mean_of_several_references_is_compared(command: Command, images: Path) -> None:
    rows = [["spiky", "0.99,0.14106736"], ["spiky", "0,1"], ["steady", "0.9,0.43588989"], ["steady", "0.9,0.43588989"]]
    (images / "dataset.json").write_text(json.dumps(rows))
    assert command("import", "dataset.json", "--embedding-space", "external:test:2").code == 0
    (images / "probe.json").write_text("[1, 0]")
    nearest = {}
    for mean_of in ("1", "2"):
        (face,) = command("recognize", "probe.json", "--embedding", "--mean-of", mean_of, "--json").json["faces"]
        nearest[mean_of] = face["candidates"][0]["person"]["name"]
    assert nearest == {"1": "spiky", "2": "steady"}
    assert command("recognize", "probe.json", "--embedding", "--mean-of", "0").code == 2
