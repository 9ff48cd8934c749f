"""Appearances: who was seen from when to when. They are made from analyzed frames, in constant memory."""

from dataclasses import dataclass
from typing import Final

from service.encoder.contract import Box
from service.video.analysis import AnalyzedFrame, TrackedFace

GAP_SECONDS: Final = 2.0
"""A person who is not seen for longer and comes back appears again."""
_LEAST_FRAMES: Final = 3
"""Unknown faces of fewer frames are not listed: most are errors of the detector."""


@dataclass(eq=False)
class Appearance:
    """One person, or one unknown face, in front of the camera.

    Times are seconds from the beginning of the source. The best frame is that of the highest similarity; for an unknown
    face that of the highest quality.
    """

    person_id: str | None
    name: str | None
    from_seconds: float
    to_seconds: float
    best_similarity: float
    best_frame: int
    best_seconds: float
    best_box: Box
    frames: int
    tracks: set[int]
    _best_quality: float = 0.0

    def add(self, frame: AnalyzedFrame, seen: TrackedFace) -> None:
        """Add a frame in which the person is seen."""
        self.to_seconds = max(self.to_seconds, frame.seconds)
        self.frames += 1
        self.tracks.add(seen.track)
        similarity = 0.0 if seen.identity is None else seen.identity.similarity
        if (similarity, seen.face.quality) > (self.best_similarity, self._best_quality):
            self.best_similarity, self._best_quality = similarity, seen.face.quality
            self.best_frame, self.best_seconds, self.best_box = frame.number, frame.seconds, seen.face.box

    def join(self, other: "Appearance") -> None:
        """Add an appearance of the same person."""
        self.from_seconds = min(self.from_seconds, other.from_seconds)
        self.to_seconds = max(self.to_seconds, other.to_seconds)
        self.frames += other.frames
        self.tracks |= other.tracks
        if (other.best_similarity, other._best_quality) > (self.best_similarity, self._best_quality):
            self.best_similarity, self._best_quality = other.best_similarity, other._best_quality
            self.best_frame, self.best_seconds, self.best_box = other.best_frame, other.best_seconds, other.best_box


class Appearances:
    """The appearances of one source. Those that are over are handed out, the others are kept.

    An unknown track that gets a name later counts from its first frame.
    """

    def __init__(self) -> None:
        self._people: dict[str, Appearance] = {}
        self._unknown: dict[int, Appearance] = {}

    def add(self, frame: AnalyzedFrame) -> list[Appearance]:
        """Take the next frame. Returns the appearances that are over, the earliest first."""
        over = self._over(frame.seconds - GAP_SECONDS)  # first, because a person of this frame may begin a new one
        for seen in frame.faces:
            if seen.identity is None:
                self._add_unknown(frame, seen)
            else:
                self._add_named(frame, seen, seen.identity.person_id or seen.identity.name)
        return over

    def finish(self) -> list[Appearance]:
        """The appearances that are left at the end of the source, the earliest first."""
        return self._over(float("inf"))

    def _add_unknown(self, frame: AnalyzedFrame, seen: TrackedFace) -> None:
        named = next((one for one in self._people.values() if seen.track in one.tracks), None)
        if named is not None:  # the name of the track is held back until the face is read again
            named.to_seconds = max(named.to_seconds, frame.seconds)
            return
        if seen.track not in self._unknown:
            self._unknown[seen.track] = _begun(frame, seen)
        self._unknown[seen.track].add(frame, seen)

    def _add_named(self, frame: AnalyzedFrame, seen: TrackedFace, key: str) -> None:
        if key not in self._people:
            self._people[key] = _begun(frame, seen)
        person = self._people[key]
        if (earlier := self._unknown.pop(seen.track, None)) is not None:
            person.join(earlier)
        person.add(frame, seen)

    def _over(self, before_seconds: float) -> list[Appearance]:
        over = [one for one in [*self._people.values(), *self._unknown.values()] if one.to_seconds < before_seconds]
        self._people = {key: one for key, one in self._people.items() if one not in over}
        self._unknown = {track: one for track, one in self._unknown.items() if one not in over}
        kept = [one for one in over if one.name is not None or one.frames >= _LEAST_FRAMES]
        return sorted(kept, key=lambda one: one.from_seconds)


def _begun(frame: AnalyzedFrame, seen: TrackedFace) -> Appearance:
    identity = seen.identity
    return Appearance(
        None if identity is None else identity.person_id,
        None if identity is None else identity.name,
        frame.seconds,
        frame.seconds,
        0.0,
        frame.number,
        frame.seconds,
        seen.face.box,
        0,
        set(),
    )
