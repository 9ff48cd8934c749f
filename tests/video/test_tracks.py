"""Tracks, their identities and appearances: pure rules, with faces that the tests place."""

import numpy as np
import pytest

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.contract import Box, DetectedFace

pytest.importorskip("av", reason="left out: the extra video is not installed")

from service.video.analysis import AnalyzedFrame, TrackedFace
from service.video.appearances import Appearances
from service.video.cuts import is_cut, thumbnail
from service.video.readings import Identity, Readings
from service.video.tracking import LONGEST_GAP_SECONDS, Tracker
from tests.support.videos import Scene, draw_scene

SPACE = EmbeddingSpace("made", "0" * 64, 4, "cosine", 0.45)
ADA, BOB = Identity("1", "Ada", 0.6), Identity("2", "Bob", 0.6)


def face(left: float, top: float = 100, side: float = 100, quality: float = 0.8) -> DetectedFace:
    return DetectedFace(Box(left, top, left + side, top + side), 0.9, (), quality)


def vector(*numbers: float) -> Embedding:
    return np.array(numbers, dtype=np.float32)


def test_a_face_that_moves_keeps_its_track() -> None:
    tracker = Tracker()
    numbers = [tracker.update([face(left)], left / 100)[0].number for left in range(0, 300, 20)]
    assert set(numbers) == {1}


def test_a_quick_face_is_found_where_it_moves_to() -> None:
    """Each step is 60 of its 100 pixels: without the speed the overlap would be too small."""
    tracker = Tracker()
    lefts = [0, 20, 45, 80, 130, 190, 250, 310]
    numbers = [tracker.update([face(left)], place / 10)[0].number for place, left in enumerate(lefts)]
    assert set(numbers) == {1}


def test_two_faces_keep_their_tracks_in_any_order() -> None:
    tracker = Tracker()
    first = tracker.update([face(0), face(300)], 0.0)
    second = tracker.update([face(305), face(5)], 0.1)
    assert [track.number for track in second] == [first[1].number, first[0].number]


def test_a_track_ends_after_a_gap_and_at_a_cut() -> None:
    tracker = Tracker()
    tracker.update([face(0)], 0.0)
    assert tracker.update([face(0)], LONGEST_GAP_SECONDS + 0.1)[0].number == 2
    assert tracker.update([face(0)], LONGEST_GAP_SECONDS + 0.2, is_cut=True)[0].number == 3
    assert [track.number for track in tracker.take_ended()] == [1, 2]
    assert tracker.take_ended() == []


def test_a_face_that_was_out_of_sight_hides_its_name_until_it_is_read() -> None:
    tracker = Tracker()
    for seconds in (0.0, 0.1, 0.2):
        (track,) = tracker.update([face(0)], seconds)
        tracker.confirm(track)
    tracker.update([], 0.3)
    (track,) = tracker.update([face(0)], 0.4)
    assert track.hides_name
    tracker.confirm(track)
    (track,) = tracker.update([face(0)], 0.5)
    assert not track.hides_name


def test_a_scene_begins_where_the_picture_changes_and_not_where_people_move() -> None:
    ada, bob = Scene(["ada"], 5), Scene(["bob", "cleo"], 5, brightness=0.2)
    still = thumbnail(draw_scene(ada, 0))
    assert not is_cut(still, thumbnail(draw_scene(ada, 4)))
    assert is_cut(still, thumbnail(draw_scene(bob, 0)))


def test_a_track_is_read_seldom_and_more_seldom_once_it_has_a_name() -> None:
    unknown, named = Readings(), Readings()
    for seconds in np.arange(0, 30, 0.1):
        for readings in (unknown, named):
            if readings.is_due(face(0), float(seconds)):
                readings.add(vector(1, 0, 0, 0), face(0), SPACE, float(seconds))
                readings.decide(ADA if readings is named else None, float(seconds), 0)
    assert named.count < unknown.count < 15


def test_a_much_better_face_is_read_before_its_time() -> None:
    readings = Readings()
    for seconds in (0.0, 0.1, 0.3, 0.7):
        readings.add(vector(1, 0, 0, 0), face(0, side=40, quality=0.3), SPACE, seconds)
    assert not readings.is_due(face(0, side=40, quality=0.3), 0.9)
    assert readings.is_due(face(0, side=112, quality=0.9), 0.9)


def test_a_good_face_counts_for_more_than_a_bad_one() -> None:
    readings = Readings()
    readings.add(vector(1, 0, 0, 0), face(0, quality=0.9), SPACE, 0.0)
    readings.add(vector(0, 1, 0, 0), face(0, side=20, quality=0.1), SPACE, 0.1)
    good = readings.similarity_to(vector(1, 0, 0, 0), SPACE)
    bad = readings.similarity_to(vector(0, 1, 0, 0), SPACE)
    assert good is not None
    assert bad is not None
    assert good > 0.9
    assert bad < 0.2


def test_a_name_stays_if_later_readings_match_nobody_or_somebody_hardly_better() -> None:
    readings = Readings()
    readings.decide(ADA, 1.0, 10)
    readings.decide(None, 2.0, 20)
    assert readings.identity == ADA
    readings.decide(Identity("2", "Bob", 0.62), 3.0, 30)
    assert readings.identity == ADA
    assert (readings.best_similarity, readings.best_frame) == (0.6, 10)


def test_a_name_changes_if_another_person_matches_clearly_better() -> None:
    readings = Readings()
    readings.decide(ADA, 1.0, 10)
    readings.decide(Identity("2", "Bob", 0.7), 2.0, 20)
    assert readings.identity is not None
    assert (readings.identity.name, readings.best_frame) == ("Bob", 20)


def frame(number: int, *faces: TrackedFace) -> AnalyzedFrame:
    return AnalyzedFrame(number, number / 10, faces)


def seen(track: int, identity: Identity | None) -> TrackedFace:
    return TrackedFace(track, face(0), identity)


def test_an_appearance_lasts_from_the_first_frame_of_the_track_to_its_last() -> None:
    appearances = Appearances()
    for number in range(20):
        assert appearances.add(frame(number, seen(1, None if number < 5 else ADA))) == []
    (ada,) = appearances.finish()
    assert (ada.name, ada.from_seconds, ada.to_seconds, ada.frames) == ("Ada", 0.0, 1.9, 20)
    assert ada.best_similarity == 0.6


def test_a_person_in_two_tracks_appears_once_and_after_a_long_absence_again() -> None:
    appearances = Appearances()
    over = [one for number in range(10) for one in appearances.add(frame(number, seen(1, ADA)))]
    over += [one for number in range(15, 20) for one in appearances.add(frame(number, seen(2, ADA)))]
    assert over == []
    over += [one for number in range(60, 70) for one in appearances.add(frame(number, seen(3, ADA)))]
    over += appearances.finish()
    assert [(one.name, one.from_seconds, one.to_seconds) for one in over] == [("Ada", 0.0, 1.9), ("Ada", 6.0, 6.9)]


def test_two_people_appear_at_the_same_time() -> None:
    appearances = Appearances()
    for number in range(5):
        appearances.add(frame(number, seen(1, ADA), seen(2, BOB)))
    assert sorted(one.name or "" for one in appearances.finish()) == ["Ada", "Bob"]


def test_an_unknown_face_of_two_frames_is_no_appearance() -> None:
    appearances = Appearances()
    appearances.add(frame(0, seen(1, None), seen(2, None)))
    appearances.add(frame(1, seen(1, None), seen(2, None)))
    appearances.add(frame(2, seen(2, None)))
    assert [(one.name, one.frames) for one in appearances.finish()] == [(None, 3)]
