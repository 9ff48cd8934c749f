"""Writes a recording again, with a box and a name around each face. The sound is copied.

The whole recording is analyzed before, so a track has its final name from its first frame on. Between two analyzed
frames the boxes move evenly.
"""

import bisect
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import av
import av.error
import numpy as np

from service.encoder.contract import Box, Image
from service.encoder.images.annotate import draw_faces
from service.encoder.images.decode import ImageLimits
from service.errors import InvalidRequest, NotFound, ServiceError
from service.video.analysis import AnalyzedFrame
from service.video.opening import open_container
from service.video.readings import Identity
from service.video.sources import upright_pixels

FORMATS: Final = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Endings of files, in small letters, and their formats of FFmpeg. All of them take H.264."""
_CODECS: Final = {"libx264": {"crf": "23", "preset": "veryfast"}, "libopenh264": {}, "mpeg4": {"q": "4"}}
"""Video codecs in the order of preference, with their options. Builds of FFmpeg differ in what they have."""


def check_annotated(path: Path) -> None:
    """Raise InvalidRequest if the ending of the file is not known, and NotFound if its folder is missing."""
    if path.suffix.lower() not in FORMATS:
        raise InvalidRequest(f"--annotate {path}: the name must end in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise NotFound(f"--annotate {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise InvalidRequest(f"--annotate {path} is a folder, not a file")


def write_annotated(
    source: str,
    target: Path,
    frames: Sequence[AnalyzedFrame],
    names: Mapping[int, Identity],
    limits: ImageLimits,
    *,
    tell_seconds: Callable[[float], None] = lambda _: None,
) -> None:
    """Write the recording `source` with the faces of `frames`, in the order of time. `names` has the named tracks.

    The file appears when it is complete. Damage ends it where the source ends. `tell_seconds` reports the progress.
    """
    part = target.with_name(f".{target.name}.part")
    drawing = _Drawing(frames, names)
    try:
        with av.open(str(part), "w", format=FORMATS[target.suffix.lower()]) as output:
            _copy(source, output, drawing, limits, tell_seconds)
        part.replace(target)
    except av.error.FFmpegError as error:
        raise ServiceError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _copy(
    source: str, output: Any, drawing: "_Drawing", limits: ImageLimits, tell_seconds: Callable[[float], None]
) -> None:
    container, track = open_container(source, limits)
    with contextlib.closing(container):
        sound = container.streams.audio[0] if container.streams.audio else None
        writer = _Writer(output, track, sound)
        number = -1
        try:
            for packet in container.demux([stream for stream in (track, sound) if stream is not None]):
                if packet.stream is sound:
                    writer.add_sound(packet)
                    continue
                for frame in packet.decode():
                    number += 1
                    writer.add_frame(frame, drawing.draw(number, upright_pixels(frame, limits)))
                    tell_seconds(0.0 if frame.time is None else frame.time)
        except (av.error.InvalidDataError, av.error.EOFError):
            pass  # the analysis ended here too, and its caller says it
        writer.finish()


class _Writer:
    """The output: one video track, and the sound if there is any."""

    def __init__(self, output: Any, track: Any, sound: Any) -> None:
        self._output = output
        self._track = track
        self._sound = sound
        self._video_out: Any = None
        self._sound_out: Any = None
        self._copies_sound = False
        self._waiting: list[Any] = []
        """Packets of sound before the first frame: all tracks must be known before anything is written."""

    def add_frame(self, frame: Any, image: Image) -> None:
        """Encode an image at the time of `frame`."""
        even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]  # H.264 stores colors for 2 x 2 pixels
        if self._video_out is None:
            self._begin(even)
        made = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        made.pts, made.time_base = frame.pts, frame.time_base
        self._output.mux(self._video_out.encode(made))

    def add_sound(self, packet: Any) -> None:
        """Write a packet of sound."""
        if self._video_out is None:
            self._waiting.append(packet)
        elif packet.dts is None:
            return  # the end of the stream
        elif self._copies_sound:
            packet.stream = self._sound_out
            self._output.mux(packet)
        else:
            for frame in packet.decode():
                self._output.mux(self._sound_out.encode(frame))

    def finish(self) -> None:
        """Write what the encoders still hold."""
        if self._video_out is None:
            return
        self._output.mux(self._video_out.encode(None))
        if self._sound_out is not None and not self._copies_sound:
            self._output.mux(self._sound_out.encode(None))

    def _begin(self, image: Image) -> None:
        rate = self._track.average_rate or self._track.guessed_rate or 25
        codec = next(name for name in _CODECS if name in av.codecs_available)
        self._video_out = self._output.add_stream(codec, rate=rate, options=_CODECS[codec])
        self._video_out.height, self._video_out.width, _ = image.shape
        self._video_out.pix_fmt = "yuv420p"
        self._video_out.codec_context.time_base = self._track.time_base
        if self._sound is not None:
            self._copies_sound = self._sound.codec_context.name in self._output.supported_codecs
            self._sound_out = (
                self._output.add_stream_from_template(self._sound)
                if self._copies_sound
                else self._output.add_stream("aac", rate=self._sound.codec_context.sample_rate)
            )
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            self.add_sound(packet)


class _Drawing:
    """Finds the faces of every frame from those of the analyzed frames."""

    def __init__(self, frames: Sequence[AnalyzedFrame], names: Mapping[int, Identity]) -> None:
        self._frames = frames
        self._numbers = [frame.number for frame in frames]
        self._names = names

    def draw(self, number: int, image: Image) -> Image:
        """The image with the faces of the frame of that number."""
        faces = self.faces_at(number)
        labels = [(box, label_of(self._names.get(track))) for track, box in faces.items()]
        unmatched = {place for place, track in enumerate(faces) if track not in self._names}
        return draw_faces(image, labels, unmatched=unmatched) if labels else image

    def faces_at(self, number: int) -> dict[int, Box]:
        """The box of each track. Between two analyzed frames a track of both moves evenly, others are in the nearer."""
        place = bisect.bisect_right(self._numbers, number)
        before = self._frames[place - 1] if place else None
        after = self._frames[place] if place < len(self._frames) else None
        if before is None or after is None:
            return _boxes(before or after)
        share = (number - before.number) / (after.number - before.number)
        old, new = _boxes(before), _boxes(after)
        nearer = old if share < 0.5 else new
        return {
            track: _between(old[track], new[track], share) if track in old and track in new else box
            for track, box in (old | new).items()
            if track in nearer or (track in old and track in new)
        }


def label_of(identity: Identity | None) -> str:
    """The label of a face: the person, or "unknown". It has no similarity, which would change from frame to frame."""
    return "unknown" if identity is None else identity.name


def _boxes(frame: AnalyzedFrame | None) -> dict[int, Box]:
    return {} if frame is None else {seen.track: seen.face.box for seen in frame.faces}


def _between(old: Box, new: Box, share: float) -> Box:
    return Box(
        old.left + share * (new.left - old.left),
        old.top + share * (new.top - old.top),
        old.right + share * (new.right - old.right),
        old.bottom + share * (new.bottom - old.bottom),
    )
