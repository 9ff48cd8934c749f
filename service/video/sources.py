"""Frames of a video file, an address or a camera, decoded by PyAV.

A recording (a file, or an HTTP address with an end) gives its frames in order. A live source (RTSP, RTMP, an endless
HTTP address, a camera) gives its newest frame only: a thread always reads, so that nothing waits for the caller, and
reconnects if the source ends. `opening` opens them.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Final, Protocol

import av
import av.error
import numpy as np

from service.encoder.contract import Image
from service.encoder.images.decode import ImageLimits, check_pixels
from service.errors import UnreadableVideo
from service.video.opening import OPEN_SECONDS, OpenedVideo, Opening

_SHORTFALL_SECONDS: Final = 1.0
"""A recording whose frames end this long before its declared end was cut off."""

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
_ATTEMPTS: Final = 10
"""Failed attempts in a row before a live source is given up: about three minutes."""


@dataclass(frozen=True)
class Frame:
    """One frame: its number in the source (from 0), its time in seconds from the beginning, and its upright pixels."""

    number: int
    seconds: float
    image: Image


class Source(Protocol):
    """Frames to analyze. Use it in a `with` statement. Methods block."""

    @property
    def is_live(self) -> bool:
        """Whether frames that are not read in time are skipped."""
        ...

    @property
    def duration_seconds(self) -> float | None:
        """The declared length of a recording."""
        ...

    @property
    def shortfall(self) -> str | None:
        """The missing part of a recording that was read to its end, as a sentence; None if it is complete."""
        ...

    def next_frame(self) -> Frame | None:
        """The next frame, or None at the end. Raises UnreadableVideo or VideoSourceUnavailable."""
        ...

    def close(self) -> None:
        """Release the file, address or camera."""
        ...

    def __enter__(self) -> "Source": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_source(
    source: str, limits: ImageLimits, frames_per_second: float | None = None, open_seconds: float = OPEN_SECONDS
) -> Source:
    """Open a file by its path, an address with a scheme, or a camera by its number.

    `frames_per_second` limits the frames that are returned; None returns all. Raises NotFound if there is no such file
    or camera, UnreadableVideo if it is not a video that can be decoded, VideoSourceUnavailable if an address does not
    answer, ImageTooLarge if its frames have too many pixels.
    """
    opening = Opening(source, limits, open_seconds)
    opened = opening.open()
    if opening.is_live(opened):
        return LiveSource(opening, opened, frames_per_second)
    return Recording(opening, opened, frames_per_second)


def upright_pixels(frame: Any, limits: ImageLimits) -> Image:
    """The pixels of a frame of PyAV, RGB and upright. A frame may be larger than the header of its file says."""
    check_pixels(frame.width, frame.height, limits)
    pixels: Image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


class _Decoder:
    """Decodes the frames of one opened container, with their numbers and times."""

    def __init__(self, opening: Opening, opened: OpenedVideo) -> None:
        self._opening = opening
        self._opened = opened
        self._rate = opened.stream.average_rate or opened.stream.guessed_rate or Fraction(25)
        self._first: float | None = None
        self._frames = opened.container.decode(opened.stream)
        self.number = -1
        self.seconds = 0.0
        """Number and time of the last frame."""

    def next(self) -> Any:
        """The next frame of PyAV, or None at the end."""
        try:
            frame = next(self._frames, None)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if self.number < 0 or isinstance(error, av.error.ExitError):
                self._opening.fail(error)
            raise UnreadableVideo(f"{self._opening.shown} is damaged after {self.seconds:.1f} s") from None
        if frame is None:
            return None
        self.number += 1
        at = float(self.number / self._rate) if frame.time is None else float(frame.time)
        self._first = at if self._first is None else self._first
        self.seconds = max(0.0, at - self._first)
        return frame

    def image_of(self, frame: Any) -> Image:
        """The upright pixels of the last frame."""
        return upright_pixels(frame, self._opening.limits)

    def close(self) -> None:
        """Close the container."""
        self._frames.close()
        self._opened.container.close()


class Pace:
    """Chooses the frames for a rate: the first frame, and then the first of each interval."""

    def __init__(self, frames_per_second: float | None) -> None:
        self._interval = 0.0 if not frames_per_second else 1.0 / frames_per_second
        self._due = 0.0

    def takes(self, seconds: float) -> bool:
        """Whether the frame at that time is due. Each call is for a later frame."""
        if seconds + 1e-6 < self._due:
            return False
        self._due = max(self._due + self._interval, seconds - self._interval / 2)
        return True


class _Closing:
    """`with` closes the source."""

    def close(self) -> None:
        """Release the source."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Recording(_Closing):
    """A video with an end. Frames come in order, as fast as they are asked for."""

    is_live = False

    def __init__(self, opening: Opening, opened: OpenedVideo, frames_per_second: float | None) -> None:
        self._opening = opening
        self._decoder = _Decoder(opening, opened)
        self._pace = Pace(frames_per_second)
        self.duration_seconds = opened.duration_seconds
        self.shortfall: str | None = None

    def next_frame(self) -> Frame | None:
        """The next frame that is due. Raises UnreadableVideo if there is no frame at all, or damage that hides the
        rest.
        """
        while (frame := self._decoder.next()) is not None:
            if self._pace.takes(self._decoder.seconds):
                return Frame(self._decoder.number, self._decoder.seconds, self._decoder.image_of(frame))
        if self._decoder.number < 0:
            raise UnreadableVideo(f"{self._opening.shown} has no frames")
        self.shortfall = self._missing()
        return None

    def close(self) -> None:
        """Close the file."""
        self._decoder.close()

    def __enter__(self) -> "Recording":
        return self

    def _missing(self) -> str | None:
        declared, last = self.duration_seconds, self._decoder.seconds
        if declared is None or declared - last <= max(_SHORTFALL_SECONDS, 0.02 * declared):
            return None
        return f"{self._opening.shown} is cut off: its frames end after {last:.1f} s of {declared:.1f} s"


class LiveSource(_Closing):
    """A source without an end: its newest frame, read in a thread. It reconnects with growing pauses."""

    is_live = True
    duration_seconds = None
    shortfall = None

    def __init__(self, opening: Opening, opened: OpenedVideo, frames_per_second: float | None) -> None:
        self._opening = opening
        self._pace = Pace(frames_per_second)
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._began = time.monotonic()
        self._count = -1
        self.reconnections = 0
        """How often the source was opened again."""
        self._thread = threading.Thread(target=self._read, args=(opened,), name="video-source", daemon=True)
        self._thread.start()

    def next_frame(self) -> Frame | None:
        """Wait for a frame that was not returned yet. None after `close`."""
        with self._changed:
            while self._newest is None and self._error is None and not self._stopping.is_set():
                self._changed.wait()
            frame, self._newest = self._newest, None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def close(self) -> None:
        """End the thread and close the source."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> "LiveSource":
        return self

    def _read(self, opened: OpenedVideo) -> None:
        """Read until `close`. Frames of each connection continue the numbers and the clock."""
        failures = 0
        current: OpenedVideo | None = opened
        while not self._stopping.is_set():
            try:
                if current is None:
                    current = self._opening.open()
                    self.reconnections += 1
                if self._read_connection(current):
                    failures = 0
            except Exception as error:
                if failures >= _ATTEMPTS:
                    self._give_up(error)
                    return
            current = None
            failures += 1
            self._stopping.wait(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (failures - 1)))

    def _read_connection(self, opened: OpenedVideo) -> bool:
        """Read one connection to its end. Returns whether it gave a frame."""
        decoder = _Decoder(self._opening, opened)
        try:
            while not self._stopping.is_set() and (frame := decoder.next()) is not None:
                self._count += 1
                seconds = time.monotonic() - self._began
                if self._pace.takes(seconds):
                    self._offer(Frame(self._count, seconds, decoder.image_of(frame)))
            return decoder.number >= 0
        finally:
            decoder.close()

    def _offer(self, frame: Frame) -> None:
        with self._changed:
            self._newest = frame
            self._changed.notify_all()

    def _give_up(self, error: Exception) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()


def frames_of(source: Source) -> Iterator[Frame]:
    """Every frame that is due, to the end of the source."""
    while (frame := source.next_frame()) is not None:
        yield frame
