"""People's images on disk: who is on which image, and which layouts are refused."""

import os
from pathlib import Path

import pytest

from service.errors import InvalidRequest, NoPerson, NotFound, UnreadableImage
from service.identity.people_folders import PeopleFolders, find_people, find_portraits, read_image_file


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"image")
    return folder


def shown(found: PeopleFolders) -> dict[str, list[str]]:
    return {person: [image.shown for image in images] for person, images in found.people.items()}


def test_each_folder_of_a_folder_is_a_person(tmp_path: Path) -> None:
    write(tmp_path, "ada/10.jpg", "ada/9.jpg", "ada/notes.txt", "bob/1.png", "bob/.hidden.jpg")
    assert shown(find_people([tmp_path])) == {"ada": ["ada/9.jpg", "ada/10.jpg"], "bob": ["bob/1.png"]}


def test_a_folder_one_level_too_high_is_refused_and_the_message_says_which_folder_was_meant(tmp_path: Path) -> None:
    write(tmp_path, "team/ada/1.jpg", "team/bob/1.jpg")
    with pytest.raises(InvalidRequest, match=r"team holds folders \(ada, bob\).*enroll \S*/team\. .*--name"):
        find_people([tmp_path])
    assert list(shown(find_people([tmp_path / "team"]))) == ["ada", "bob"]
    assert shown(find_people([tmp_path], "Both")) == {"Both": ["team/ada/1.jpg", "team/bob/1.jpg"]}


def test_an_empty_folder_inside_a_person_is_no_mistake(tmp_path: Path) -> None:
    write(tmp_path, "ada/1.jpg", "ada/raw/1.nef")
    assert shown(find_people([tmp_path])) == {"ada": ["ada/1.jpg"]}


def test_files_of_the_same_name_from_two_folders_are_refused_with_both_paths(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "b/1.png", "a/1.png")
    with pytest.raises(InvalidRequest, match=r"a/1\.jpg and \S*b/1\.png would both be the person '1'.*--name"):
        find_people([tmp_path / "a/1.jpg", tmp_path / "b/1.png"])
    assert list(find_people([tmp_path / "a/1.jpg", tmp_path / "a/1.png"]).people) == ["1"]
    assert list(find_people([tmp_path / "a/1.jpg", tmp_path / "b/1.png"], "Ada").people) == ["Ada"]


def test_an_image_beside_folders_of_people_belongs_to_nobody(tmp_path: Path) -> None:
    write(tmp_path, "ada/1.jpg", "stray.jpg")
    (rejected,) = find_people([tmp_path]).rejected
    assert (rejected.shown, rejected.kind) == ("stray.jpg", NoPerson)


def test_the_current_folder_is_named_by_its_real_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "ada/1.jpg")
    monkeypatch.chdir(tmp_path / "ada")
    assert list(find_people(["."]).people) == ["ada"]


@pytest.mark.parametrize("helper", ["@eaDir", "#recycle", "lost+found", "__MACOSX", "$RECYCLE.BIN"])
def test_folders_of_storage_systems_are_skipped_at_every_level_and_told(tmp_path: Path, helper: str) -> None:
    write(tmp_path, "ada/1.jpg", f"ada/{helper}/thumb.jpg", f"{helper}/ada/1.jpg")
    found = find_people([tmp_path])
    assert shown(found) == {"ada": ["ada/1.jpg"]}
    assert set(found.skipped) == {helper, f"ada/{helper}"}


def test_a_name_that_is_not_utf8_is_rejected_and_the_others_stay(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/Ren\xe9")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/Ren\xe9/1.jpg")).write_bytes(b"image")
    write(tmp_path, "ada/1.jpg")
    found = find_people([tmp_path])
    assert shown(found) == {"ada": ["ada/1.jpg"]}
    assert [(file.shown, file.kind, file.detail) for file in found.rejected] == [
        ("Ren\\xe9/1.jpg", NoPerson, "the person's name is not UTF-8")
    ]


def test_a_link_to_a_folder_above_is_followed_once_only(tmp_path: Path) -> None:
    write(tmp_path, "ada/1.jpg")
    (tmp_path / "ada/loop").symlink_to(tmp_path / "ada")
    assert shown(find_people([tmp_path / "ada"], "Ada"))["Ada"] == ["1.jpg", "loop/1.jpg"]


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nix\.jpg does not exist"):
        find_people([tmp_path / "nix.jpg"])


def test_a_folder_without_folders_holds_no_portraits_of_several_people(tmp_path: Path) -> None:
    write(tmp_path, "1.jpg", "2.jpg")
    with pytest.raises(InvalidRequest, match="needs one folder per person"):
        find_portraits(tmp_path)


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for name, reason in {
        "pipe.jpg": "not a regular file",
        "broken.jpg": "No such file",
        "loop.jpg": "symbolic links",
    }.items():
        with pytest.raises(UnreadableImage, match=reason):
            read_image_file(tmp_path / name)
    assert read_image_file(write(tmp_path, "ada.jpg") / "ada.jpg") == b"image"
