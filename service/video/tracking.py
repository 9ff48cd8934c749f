"""Follows faces over frames: the same face in the next frame is the one at nearly the same place.

Boxes are compared by intersection over union (IoU) with the place where each track should be now, best pair first.
docs/decisions/0018 says why this is written here. Ties across longer gaps are made from embeddings (`analysis`).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from service.encoder.contract import Box, DetectedFace
from service.video.cuts import Thumbnail
from service.video.readings import Readings

_LEAST_OVERLAP: Final = 0.25
"""IoU from which a face may continue a track."""
_SURE_OVERLAP: Final = 0.5
LONGEST_GAP_SECONDS: Final = 1.0
"""A track that is not seen for longer ends."""
_SMOOTHING: Final = 0.5


@dataclass
class Track:
    """One face followed over frames."""

    number: int
    face: DetectedFace
    first_seconds: float
    last_seconds: float
    frames: int = 1
    is_doubtful: bool = True
    """Whether the last frames may have joined another face, which should be read now."""
    hides_name: bool = True
    """Whether the face was out of sight since it was read last, or was unlike itself then. Its name is not shown before
    it is read again.
    """
    strange_readings: int = 0
    """Readings in a row that are unlike the track."""
    patch: Thumbnail | None = None
    """The face in the last frame, small."""
    readings: Readings = field(default_factory=Readings)
    _speed: tuple[float, float] = (0.0, 0.0)

    def box_at(self, seconds: float) -> Box:
        """Where the face should be, if it moves on as before."""
        ahead = min(seconds - self.last_seconds, LONGEST_GAP_SECONDS / 2)
        x, y = self._speed[0] * ahead, self._speed[1] * ahead
        box = self.face.box
        return Box(box.left + x, box.top + y, box.right + x, box.bottom + y)

    def follow(self, face: DetectedFace, seconds: float, overlap: float, usual_seconds: float) -> None:
        """Add the face of the next frame."""
        elapsed = max(1e-3, seconds - self.last_seconds)
        moved = _middle(face.box), _middle(self.face.box)
        self._speed = (
            self._speed[0] + _SMOOTHING * ((moved[0][0] - moved[1][0]) / elapsed - self._speed[0]),
            self._speed[1] + _SMOOTHING * ((moved[0][1] - moved[1][1]) / elapsed - self._speed[1]),
        )
        was_missed = elapsed > 1.5 * usual_seconds
        self.is_doubtful = self.is_doubtful or was_missed or overlap < _SURE_OVERLAP
        self.hides_name = self.hides_name or was_missed
        self.face, self.last_seconds = face, seconds
        self.frames += 1


class Tracker:
    """The tracks of one source. `update` takes the faces of each analyzed frame, in the order of time."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._seconds: float | None = None
        self.tracks: list[Track] = []
        """Tracks that a face may still continue."""
        self.ended: list[Track] = []
        """Tracks that have ended since the last `take_ended`."""

    def update(self, faces: Sequence[DetectedFace], seconds: float, *, is_cut: bool = False) -> list[Track]:
        """The track of each face, in the order of `faces`."""
        usual = LONGEST_GAP_SECONDS / 4 if self._seconds is None else seconds - self._seconds
        self._seconds = seconds
        self._end(lambda track: is_cut or seconds - track.last_seconds > LONGEST_GAP_SECONDS)
        found: dict[int, Track] = {}
        for overlap, place, track in self._pairs(faces, seconds):
            if place not in found and track not in found.values():
                track.follow(faces[place], seconds, overlap, usual)
                found[place] = track
        for place, face in enumerate(faces):
            if place not in found:
                found[place] = Track(next(self._numbers), face, seconds, seconds)
                self.tracks.append(found[place])
        return [found[place] for place in range(len(faces))]

    def confirm(self, track: Track) -> None:
        """The face of the track was read, and it is still of the same person."""
        track.is_doubtful = track.hides_name = False
        track.strange_readings = 0

    def split(self, track: Track) -> Track:
        """End the track, because its face is of another person now. Returns the track that begins instead."""
        fresh = Track(next(self._numbers), track.face, track.last_seconds, track.last_seconds, patch=track.patch)
        self._end(lambda other: other is track)
        self.tracks.append(fresh)
        return fresh

    def take_ended(self) -> list[Track]:
        """The tracks that have ended since the last call."""
        ended, self.ended = self.ended, []
        return ended

    def _pairs(self, faces: Sequence[DetectedFace], seconds: float) -> list[tuple[float, int, Track]]:
        """Faces and tracks that may belong together, the best overlap first."""
        pairs = [
            (overlap_of(face.box, track.box_at(seconds)), place, track)
            for place, face in enumerate(faces)
            for track in self.tracks
        ]
        return sorted((pair for pair in pairs if pair[0] >= _LEAST_OVERLAP), key=lambda pair: -pair[0])

    def _end(self, is_over: Callable[[Track], bool]) -> None:
        self.ended += [track for track in self.tracks if is_over(track)]
        self.tracks = [track for track in self.tracks if not is_over(track)]


def overlap_of(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, from 0 to 1."""
    common = Box(
        max(one.left, other.left), max(one.top, other.top), min(one.right, other.right), min(one.bottom, other.bottom)
    )
    if common.width <= 0 or common.height <= 0:
        return 0.0
    return common.area / (one.area + other.area - common.area)


def _middle(box: Box) -> tuple[float, float]:
    return (box.left + box.right) / 2, (box.top + box.bottom) / 2
