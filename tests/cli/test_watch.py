"""`watch`, and `recognize` and `detect` with a video, on made videos and on a real clip."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from service.encoder.fake_pictures import draw_people
from tests.cli.conftest import Command
from tests.support.data import data_path
from tests.support.videos import Scene, av, save_sound, save_video


@pytest.fixture
def clip(command: Command, tmp_path: Path) -> Path:
    """A video of Ada and a stranger, then Bob, with sound; Ada and Bob are enrolled."""
    for name in ("ada", "bob"):
        (tmp_path / "people" / name).mkdir(parents=True)
        (tmp_path / "people" / name / "1.jpg").write_bytes(draw_people([name], variation=1))
    assert command("enroll", "people").code == 0
    scenes = [Scene(["ada", "zoe"], 20), Scene(["bob"], 20, brightness=0.3)]
    return save_video(tmp_path / "clip.mp4", scenes, sound=True)


def lines(done: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The frames and the appearances of `--json`."""
    assert done.code == 0, done.err
    read = [json.loads(line) for line in done.out.splitlines()]
    return [line for line in read if "faces" in line], [line["appearance"] for line in read if "appearance" in line]


def name_of(item: dict[str, Any]) -> str | None:
    return item["person"] and str(item["person"]["name"])


def test_a_video_gives_a_table_of_appearances(command: Command, clip: Path) -> None:
    rows = [line.split()[:3] for line in command("watch", clip).out.splitlines()[2:]]
    assert rows == [["ada", "0:00.0", "0:01.9"], ["unknown", "0:00.0", "0:01.9"], ["bob", "0:02.0", "0:03.9"]]


def test_json_has_a_line_for_each_frame_and_each_appearance(command: Command, clip: Path) -> None:
    frames, appearances = lines(command("watch", clip, "--json", "--fps", "5"))
    assert [frame["frame"] for frame in frames] == list(range(0, 40, 2))
    named = [sorted(str(name_of(face)) for face in frame["faces"]) for frame in frames]
    assert named == [["None", "ada"]] * 10 + [["bob"]] * 10
    assert [(name_of(one), one["from_seconds"], one["to_seconds"]) for one in appearances] == [
        ("ada", 0.0, 1.8),
        (None, 0.0, 1.8),
        ("bob", 2.0, 3.8),
    ]
    assert all(one["best_similarity"] > 0.5 for one in appearances if one["person"])


@pytest.mark.parametrize("words", [["watch"], ["recognize"]])
def test_an_annotated_video_is_written_with_its_sound(
    command: Command, clip: Path, tmp_path: Path, words: list[str]
) -> None:
    assert command(*words, clip, "--annotate", "out.mp4").code == 0
    with av.open(str(tmp_path / "out.mp4")) as written:
        assert len(written.streams.audio) == 1
        assert sum(1 for _ in written.decode(video=0)) == 40


def test_recognize_treats_a_video_as_watch_does(command: Command, clip: Path) -> None:
    assert command("recognize", clip).out == command("watch", clip).out


def test_detect_follows_the_faces_of_a_video(bare_command: Command, clip: Path) -> None:
    rows = [line.split()[:3] for line in bare_command("detect", clip).out.splitlines()[2:]]
    assert rows == [["unknown", "0:00.0", "0:01.9"]] * 2 + [["unknown", "0:02.0", "0:03.9"]]


def test_a_threshold_above_every_similarity_names_nobody(command: Command, clip: Path) -> None:
    _, appearances = lines(command("watch", clip, "--json", "--threshold", "1"))
    assert {name_of(one) for one in appearances} == {None}


def test_a_video_without_a_face_says_so(command: Command, clip: Path, tmp_path: Path) -> None:
    empty = save_video(tmp_path / "empty.mp4", [Scene([], 5)])
    assert "no face" in command("watch", empty).out


def test_a_cut_off_video_is_analyzed_to_its_end_with_exit_code_3(command: Command, clip: Path, tmp_path: Path) -> None:
    path = save_video(tmp_path / "cut.mp4", [Scene(["ada"], 60)], options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = command("watch", path)
    assert done.code == 3
    assert "ada" in done.out
    assert "cut.mp4" in done.err


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("missing.mp4", 5, "does not exist"),
        ("text.mp4", 4, "not a video"),
        ("sound.mp4", 4, "no video track"),
        ("rtsp://ada:secret@127.0.0.1:9/live", 7, "rtsp://127.0.0.1:9/live"),
        ("99", 5, "camera 99"),
    ],
)
def test_a_source_that_cannot_be_used_is_an_error_with_its_own_exit_code(
    command: Command, tmp_path: Path, source: str, code: int, words: str
) -> None:
    (tmp_path / "text.mp4").write_text("no video " * 100)
    save_sound(tmp_path / "sound.mp4")
    done = command("watch", source)
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert "secret" not in done.err


@pytest.mark.parametrize(("target", "code"), [("out.gif", 4), ("nowhere/out.mp4", 5)])
def test_a_target_that_cannot_be_written_is_refused_before_the_work(
    command: Command, clip: Path, target: str, code: int
) -> None:
    done = command("watch", clip, "--annotate", target)
    assert done.code == code
    assert target.partition("/")[0] in done.err


def test_a_missing_gallery_is_an_error(command: Command, clip: Path) -> None:
    assert command("watch", clip, "--gallery", "nowhere").code == 5


CLIP = ("faces", "video", "short_hamilton_clip.mp4")


@pytest.fixture
def real_gallery(command: Command) -> str:
    """A gallery of the people in the shared photographs."""
    pack = data_path("models", "scrfd2.5g-mobilefacenet128")
    done = command("enroll", data_path("faces", "people"), "--largest", "--encoder", f"insightface:{pack}")
    assert done.code == 0, done.err
    return "default"


def shares(frames: list[dict[str, Any]], begin: float, end: float, least: float = 60) -> Counter[str | None]:
    """How often each name stands on the largest face of the frames of a scene."""
    largest = [
        max(frame["faces"], key=lambda face: float(face["box"]["bottom"] - face["box"]["top"]))
        for frame in frames
        if begin <= frame["seconds"] <= end and frame["faces"]
    ]
    return Counter(name_of(face) for face in largest if face["box"]["bottom"] - face["box"]["top"] >= least)


def test_the_singer_of_a_real_clip_is_named_and_nobody_is_named_wrongly(command: Command, real_gallery: str) -> None:
    """Lin-Manuel Miranda is alone from 2.8 to 7.0 s. Barack Obama, in profile, is in the gallery too."""
    frames, appearances = lines(command("watch", data_path(*CLIP), "--json"))
    alone = shares(frames, 2.8, 7.0)
    assert alone["lin_manuel_miranda"] >= 0.9 * alone.total()
    assert {name_of(face) for frame in frames for face in frame["faces"]} == {"lin_manuel_miranda", None}
    assert [name_of(one) for one in appearances if one["person"]] == ["lin_manuel_miranda"]


def test_at_a_lower_threshold_both_people_of_a_real_clip_are_named(command: Command, real_gallery: str) -> None:
    """Obama's profile has a similarity of 0.41 to 0.46 to photographs of his front; strangers of the clip have 0.27."""
    frames, appearances = lines(command("watch", data_path(*CLIP), "--json", "--threshold", "0.4"))
    alone = shares(frames, 2.8, 7.0)
    assert alone["lin_manuel_miranda"] >= 0.9 * alone.total()
    profiles = [
        name_of(face)
        for frame in frames
        if frame["seconds"] > 7.05
        for face in frame["faces"]
        if 290 < face["box"]["left"] < 345
    ]
    assert profiles.count("barack_obama") >= 0.9 * len(profiles) > 10
    for frame in frames:
        named = {name_of(face) for face in frame["faces"]} - {None}
        assert named <= ({"lin_manuel_miranda"} if frame["seconds"] < 7.05 else {"barack_obama"})
    assert [name_of(one) for one in appearances if one["person"]] == ["lin_manuel_miranda", "barack_obama"]


def test_dlib_names_the_singer_of_a_real_clip(command: Command, tmp_path: Path) -> None:
    """Its detector finds neither profiles nor faces of 36 pixels."""
    people = data_path("faces", "people")
    assert command("enroll", people, "--largest", "--encoder", "dlib").code == 0
    frames, appearances = lines(command("watch", data_path(*CLIP), "--json"))
    alone = shares(frames, 2.8, 7.0)
    assert alone["lin_manuel_miranda"] >= 0.9 * alone.total()
    assert {name_of(face) for frame in frames for face in frame["faces"]} == {"lin_manuel_miranda", None}
    assert {name_of(one) for one in appearances} == {"lin_manuel_miranda", None}
