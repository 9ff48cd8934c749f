"""`galleries` and `people`: create, list, change, merge and erase."""

from pathlib import Path

from service.encoder.fake_pictures import draw_people
from tests.cli.conftest import Command


def test_a_new_gallery_has_the_requested_embedding_space(command: Command) -> None:
    assert command("galleries", "create", "staff", "--json").json["embedding_space"] == "fake"
    made = command("galleries", "create", "old", "--embedding-space", "external:arcface:512", "--json").json
    assert (made["embedding_space"], made["dimension"]) == ("external:arcface:512", 512)
    assert [each["name"] for each in command("galleries", "list", "--json").json["items"]] == ["staff", "old"]


def test_the_list_of_galleries_counts_people_and_faces(command: Command, tmp_path: Path) -> None:
    (tmp_path / "ada.jpg").write_bytes(draw_people(["ada"]))
    command("galleries", "create", "empty")
    command("enroll", "ada.jpg", "--gallery", "staff")
    counted = command("galleries", "list", "--json").json["items"]
    assert [(each["name"], each["people"], each["faces"]) for each in counted] == [("empty", 0, 0), ("staff", 1, 1)]
    assert "people" in command("galleries", "list").out


def test_a_person_is_shown_with_the_metadata(command: Command) -> None:
    command("galleries", "create", "default")
    command("people", "create", "Ada", "--metadata", '{"badge": "A-7", "town": "Köln"}')
    assert '{"badge": "A-7", "town": "Köln"}' in command("people", "show", "Ada").out


def test_an_unknown_encoder_creates_no_gallery(command: Command) -> None:
    assert command("galleries", "create", "staff", "--encoder", "eigenfaces").code == 7
    assert command("galleries", "list", "--json").json["items"] == []


def test_a_threshold_is_set_and_reset(command: Command) -> None:
    default = command("galleries", "create", "staff", "--json").json["threshold"]
    assert command("galleries", "update", "staff", "--threshold", "0.875", "--json").json["threshold"] == 0.875
    renamed = command("galleries", "update", "staff", "--rename", "crew", "--json").json
    assert (renamed["name"], renamed["threshold"]) == ("crew", 0.875)
    assert command("galleries", "update", "crew", "--default-threshold", "--json").json["threshold"] == default


def test_erasing_a_gallery_erases_its_people(command: Command, tmp_path: Path) -> None:
    (tmp_path / "ada.jpg").write_bytes(draw_people(["ada"]))
    command("enroll", "ada.jpg", "--gallery", "staff")
    assert command("galleries", "show", "staff", "--json").json["faces"] == 1
    assert command("galleries", "delete", "staff").code == 2
    assert command("galleries", "delete", "staff", "--yes").code == 0
    assert command("galleries", "show", "staff").code == 5


def test_a_person_is_found_by_id_name_or_external_id(command: Command) -> None:
    command("galleries", "create", "default")
    made = command(
        "people", "create", "Ada Lovelace", "--external-id", "e-17", "--metadata", '{"floor": 3}', "--json"
    ).json
    for meant in (made["id"], "Ada Lovelace", "e-17"):
        assert command("people", "show", meant, "--json").json == made
    assert made["metadata"] == {"floor": 3}


def test_a_name_that_two_people_share_is_refused(command: Command) -> None:
    command("galleries", "create", "default")
    for external_id in ("e-1", "e-2"):
        assert command("people", "create", "Ada", "--external-id", external_id).code == 0
    done = command("people", "delete", "Ada", "--yes")
    assert done.code == 6
    assert "id" in done.err
    assert len(command("people", "list", "--json").json["items"]) == 2


def test_a_name_may_hold_any_printable_character(command: Command) -> None:
    command("galleries", "create", "default")
    names = ["[bold]Ada[/bold]", "Zoë 🐱", "a/b", "名前"]
    for name in names:
        assert command("people", "create", name).code == 0
    listed = command("people", "list")
    assert [name for name in names if name not in listed.out] == []
    assert [each["name"] for each in command("people", "list", "--json").json["items"]] == names


def test_the_cursor_continues_a_list(command: Command) -> None:
    command("galleries", "create", "default")
    for name in ("Ada", "Bob", "Cleo"):
        command("people", "create", name)
    page = command("people", "list", "--limit", "2", "--json").json
    rest = command("people", "list", "--cursor", page["next_cursor"], "--json").json
    assert [each["name"] for each in page["items"] + rest["items"]] == ["Ada", "Bob", "Cleo"]
    assert rest["next_cursor"] is None
    assert page["next_cursor"] in command("people", "list", "--limit", "2").err


def test_forget_erases_one_face_of_a_person(command: Command, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.jpg").write_bytes(draw_people(["ada"], variation=number))
    command("enroll", "1.jpg", "2.jpg", "--name", "Ada")
    faces = command("people", "faces", "Ada", "--json").json["items"]
    assert [face["source"] for face in faces] == ["1.jpg", "2.jpg"]
    assert command("people", "forget", "Ada", faces[0]["id"]).code == 0
    assert [face["id"] for face in command("people", "faces", "Ada", "--json").json["items"]] == [faces[1]["id"]]


def test_metadata_must_be_a_json_object(command: Command) -> None:
    command("galleries", "create", "default")
    assert command("people", "create", "Ada", "--metadata", "[1]").code == 4
    assert command("people", "list", "--json").json["items"] == []


def test_people_are_listed_by_metadata(command: Command) -> None:
    command("galleries", "create", "default")
    for name, tag in {"Ada": "vip", "Bob": "guest", "Cleo": "vip"}.items():
        command("people", "create", name, "--metadata", f'{{"tags": ["{tag}"]}}')
    page = command("people", "list", "--metadata", '{"tags": ["vip"]}', "--limit", "1", "--json").json
    arguments = ["--metadata", '{"tags": ["vip"]}', "--cursor", page["next_cursor"], "--json"]
    rest = command("people", "list", *arguments).json
    assert [each["name"] for each in page["items"] + rest["items"]] == ["Ada", "Cleo"]
    wrong = command("people", "list", "--metadata", "vip")
    assert (wrong.code, "--metadata" in wrong.err) == (4, True)


def test_a_face_is_moved_to_another_person(command: Command, tmp_path: Path) -> None:
    for name in ("ada", "eve"):
        (tmp_path / f"{name}.jpg").write_bytes(draw_people([name]))
    command("enroll", "ada.jpg", "eve.jpg", "--name", "Ada")
    command("people", "create", "Eve")
    faces = {face["source"]: face["id"] for face in command("people", "faces", "Ada", "--json").json["items"]}
    moved = command("people", "move-face", "Ada", faces["eve.jpg"], "--to", "Eve", "--json").json
    assert (moved["name"], moved["faces"]) == ("Eve", 1)
    (face,) = command("recognize", "eve.jpg", "--json").json["faces"]
    assert face["match"]["person"]["name"] == "Eve"
    assert command("people", "move-face", "Ada", faces["eve.jpg"], "--to", "Eve").code == 5
    assert command("people", "move-face", "Ada", faces["ada.jpg"], "--to", "nobody").code == 5
    assert command("people", "move-face", "Ada", faces["ada.jpg"], "--to", "Ada").code == 4
    assert command("people", "show", "Ada", "--json").json["faces"] == 1


def test_a_person_is_merged_into_another(command: Command, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.jpg").write_bytes(draw_people(["ada"], variation=number))
        command("enroll", f"{number}.jpg", "--name", f"Ada {number}")
    unconfirmed = command("people", "merge", "Ada 1", "--from", "Ada 2")
    assert (unconfirmed.code, "--yes" in unconfirmed.err) == (2, True)
    merged = command("people", "merge", "Ada 1", "--from", "Ada 2", "--yes", "--json").json
    assert (merged["name"], merged["faces"]) == ("Ada 1", 2)
    assert [each["name"] for each in command("people", "list", "--json").json["items"]] == ["Ada 1"]
    assert command("people", "merge", "Ada 1", "--from", "Ada 1", "--yes").code == 4
    assert command("people", "merge", "Ada 1", "--from", "Ada 2", "--yes").code == 5
