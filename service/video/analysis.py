"""The analysis of one source: detect the faces of a frame, follow them, read a few of them, and decide who they are."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from service.embedding import Embedding, EmbeddingSpace
from service.encoder.contract import DetectedFace
from service.encoder.encoders import Encoders
from service.identity.review import NO_REVIEW, Review
from service.video.cuts import Thumbnail, is_changed, is_cut, patch_of, thumbnail
from service.video.readings import Identity
from service.video.sources import Frame
from service.video.tracking import Track, Tracker

Recognize = Callable[[Sequence[Embedding]], Awaitable[Sequence[Identity | None]]]
"""Searches a gallery: for each embedding the person that it matches, or None."""

_TIE_SECONDS: Final = 10.0
"""How long after its end a track may continue, if the embeddings are of one person."""
_MOST_ENDED: Final = 100
_STRANGE_READINGS: Final = 2


@dataclass(frozen=True)
class TrackedFace:
    """A face of a frame, the number of its track and the track's identity (None: unknown, or not read yet)."""

    track: int
    face: DetectedFace
    identity: Identity | None


@dataclass(frozen=True)
class AnalyzedFrame:
    """The faces of a frame, largest first."""

    number: int
    seconds: float
    faces: tuple[TrackedFace, ...]


class Analysis:
    """The analysis of one source. Frames come in the order of time, one call at a time."""

    def __init__(
        self,
        encoders: Encoders,
        space: EmbeddingSpace,
        recognize: Recognize | None,
        review: Review = NO_REVIEW,
        *,
        bulk: bool = False,
    ) -> None:
        """Without `recognize` faces are followed and never read. `bulk` work is never refused, but waits behind other
        work.
        """
        self._encoders = encoders
        self._space = space
        self._recognize = recognize
        self._review = review
        self._bulk = bulk
        self._tracker = Tracker()
        self._ended: list[Track] = []
        self._thumbnail: Thumbnail | None = None
        self.readings = 0
        """Faces that were embedded and searched so far."""

    async def analyze(self, frame: Frame) -> AnalyzedFrame:
        """The faces of the frame with their tracks and identities. Raises the errors of encoders and of `recognize`."""
        faces = await self._encoders.detect(self._space, frame.image, bulk=self._bulk)
        tracks = self._tracker.update(faces, frame.seconds, is_cut=self._begins_scene(frame))
        self._keep_ended(frame.seconds)
        for track in tracks:
            patch = patch_of(frame.image, track.face.box)
            track.is_doubtful = track.is_doubtful or track.patch is None or is_changed(track.patch, patch)
            track.patch = patch
        if self._recognize is not None:
            tracks = await self._read(frame, tracks, self._recognize)
        return AnalyzedFrame(
            frame.number,
            frame.seconds,
            tuple(
                TrackedFace(track.number, track.face, None if track.hides_name else track.readings.identity)
                for track in tracks
            ),
        )

    def track(self, number: int) -> Track | None:
        """The track of that number, unless it ended long ago."""
        return next((track for track in [*self._tracker.tracks, *self._ended] if track.number == number), None)

    def _begins_scene(self, frame: Frame) -> bool:
        before, self._thumbnail = self._thumbnail, thumbnail(frame.image)
        return before is not None and is_cut(before, self._thumbnail)

    async def _read(self, frame: Frame, tracks: list[Track], recognize: Recognize) -> list[Track]:
        """Embed the faces that are due, and search the means of their tracks in one statement."""
        due = [track for track in tracks if track.is_doubtful or track.readings.is_due(track.face, frame.seconds)]
        usable = [track for track in due if self._is_usable(track, frame.seconds)]
        if not usable:
            return tracks
        faces = [track.face for track in usable]
        encoded = await self._encoders.embed(self._space, frame.image, faces, bulk=self._bulk)
        self.readings += len(encoded)
        read = {id(track): self._add(track, one.embedding, frame) for track, one in zip(usable, encoded, strict=True)}
        await self._decide(frame, [track for track in read.values() if not track.is_doubtful], recognize)
        return [read.get(id(track), track) for track in tracks]

    async def _decide(self, frame: Frame, tracks: list[Track], recognize: Recognize) -> None:
        means = [mean for track in tracks if (mean := track.readings.mean) is not None]
        if means:
            for track, match in zip(tracks, await recognize(means), strict=True):
                track.readings.decide(match, frame.seconds, frame.number)

    def _is_usable(self, track: Track, seconds: float) -> bool:
        """Whether the face may be read. A face that the review refuses leaves its track as it is."""
        if self._review.of_probe(track.face, self._space.name) is None:
            return True
        track.readings.skip(seconds)
        return False

    def _add(self, track: Track, embedding: Embedding, frame: Frame) -> Track:
        """Add a reading to the track, or to the track that begins or continues with it.

        A reading that is unlike the track is not added. After a second one in a row the track is of another person.
        """
        if track.readings.is_stranger(embedding, track.face, self._space):
            track.is_doubtful = track.hides_name = True
            track.strange_readings += 1
            if track.strange_readings < _STRANGE_READINGS:
                return track
            track = self._tracker.split(track)
        is_first = track.readings.mean is None
        track.readings.add(embedding, track.face, self._space, frame.seconds)
        if is_first:
            self._tie(track, embedding)
        self._tracker.confirm(track)
        return track

    def _tie(self, track: Track, embedding: Embedding) -> None:
        """Continue the ended track of the same person, if there is one."""
        near = [(ended.readings.similarity_to(embedding, self._space) or 0.0, ended) for ended in self._ended]
        similarity, earlier = max(near, key=lambda pair: pair[0], default=(0.0, None))
        if earlier is not None and similarity >= self._space.threshold:
            self._ended.remove(earlier)
            track.number, track.first_seconds = earlier.number, earlier.first_seconds
            track.frames += earlier.frames
            track.readings.join(earlier.readings)

    def _keep_ended(self, seconds: float) -> None:
        """Keep the tracks that ended a moment ago, if they were read."""
        fresh = [track for track in self._tracker.take_ended() if track.readings.mean is not None]
        kept = [track for track in [*self._ended, *fresh] if seconds - track.last_seconds <= _TIE_SECONDS]
        self._ended = kept[-_MOST_ENDED:]
