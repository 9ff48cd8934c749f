"""Frames of a video file, an address or a camera, decoded by PyAV.

A recording (a file, or an HTTP address with an end) gives its frames in order. A live source (RTSP, RTMP, an endless
HTTP address, a camera) gives its newest frame only: a thread always reads, so that nothing waits for the caller, and
reconnects if the source ends.

FFmpeg reads playlists that name other files and addresses. So a file may refer to files only, and an address to
addresses only.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Protocol
from urllib.parse import urlsplit

import av
import av.error
import numpy as np

from service.encoder.contract import Image
from service.encoder.images.decode import ImageLimits, check_pixels
from service.errors import InvalidRequest, NotFound, UnreadableVideo, VideoSourceUnavailable

OPEN_SECONDS: Final = 10.0
"""Longest wait for the first bytes of an address, and for each further piece."""

_LIVE_SCHEMES: Final = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt"})
_ADDRESS_SCHEMES: Final = _LIVE_SCHEMES | {"http", "https"}
_FILE_PROTOCOLS: Final = "file,crypto,data"
_ADDRESS_PROTOCOLS: Final = "http,https,tcp,tls,rtsp,rtp,udp,rtmp,rtmps,srt,crypto,data"
_CAMERAS: Final = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}

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
    opening = _Opening(source, limits, open_seconds)
    opened = opening.open()
    if opening.is_live(opened):
        return LiveSource(opening, opened, frames_per_second)
    return Recording(opening, opened, frames_per_second)


def open_container(source: str, limits: ImageLimits, open_seconds: float = OPEN_SECONDS) -> tuple[Any, Any]:
    """The open container of a source and its first video track, of PyAV. Raises the errors of `open_source`."""
    opened = _Opening(source, limits, open_seconds).open()
    return opened.container, opened.stream


def upright_pixels(frame: Any, limits: ImageLimits) -> Image:
    """The pixels of a frame of PyAV, RGB and upright. A frame may be larger than the header of its file says."""
    check_pixels(frame.width, frame.height, limits)
    pixels: Image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def shown_source(source: str) -> str:
    """The source for messages: an address without its user, password and query."""
    if not is_address(source):
        return source
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.hostname or ''}{'' if parts.port is None else f':{parts.port}'}{parts.path}"


def is_address(source: str) -> bool:
    """Whether the source is an address that FFmpeg opens, and not a path."""
    return source.partition("://")[0].lower() in _ADDRESS_SCHEMES and "://" in source


@dataclass(frozen=True)
class _Opened:
    """An open container and its first video track."""

    container: Any
    stream: Any

    @property
    def duration_seconds(self) -> float | None:
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        return None if self.container.duration is None else float(self.container.duration / av.time_base)


@dataclass(frozen=True)
class _Opening:
    """How a source is opened, also again after it has failed."""

    source: str
    limits: ImageLimits
    open_seconds: float

    @property
    def shown(self) -> str:
        return f"camera {self.source}" if self.source.isdecimal() else shown_source(self.source)

    def open(self) -> _Opened:
        """Open the container and check its video track."""
        container = self._container()
        try:
            return _Opened(container, self._checked_stream(container))
        except BaseException:
            container.close()
            raise

    def is_live(self, opened: _Opened) -> bool:
        """Whether the source has no end: a camera, a streaming protocol, or an HTTP answer without a length."""
        if self.source.isdecimal():
            return True
        if not is_address(self.source):
            return False
        return self.source.partition("://")[0].lower() in _LIVE_SCHEMES or opened.duration_seconds is None

    def fail(self, error: Exception, waited_seconds: float = 0.0) -> NoReturn:
        """Raise the error of the catalogue for an error of FFmpeg. Its own text may hold the address and a password."""
        remote = self.source.isdecimal() or is_address(self.source)
        if isinstance(error, av.error.FileNotFoundError) and not is_address(self.source):
            raise NotFound(f"{self.shown} does not exist") from None
        # The reader of RTSP reports a timeout as invalid data.
        if isinstance(error, av.error.ExitError) or (remote and waited_seconds >= self.open_seconds):
            raise VideoSourceUnavailable(f"{self.shown} sent nothing for {self.open_seconds:g} s") from None
        if isinstance(error, av.error.InvalidDataError):
            raise UnreadableVideo(f"{self.shown} is not a video, or its beginning is damaged or cut off") from None
        if isinstance(error, av.error.EOFError):
            raise UnreadableVideo(f"{self.shown} has no frames") from None
        if isinstance(error, av.error.DecoderNotFoundError):
            raise UnreadableVideo(f"{self.shown}: no decoder for its codec is installed") from None
        reason = getattr(error, "strerror", None) or type(error).__name__
        kind = VideoSourceUnavailable if remote else UnreadableVideo
        raise kind(f"{self.shown} cannot be opened: {reason}") from None

    def _container(self) -> Any:
        if not self.source.isdecimal() and not is_address(self.source):
            return self._file()
        options: dict[str, str] = {}
        name, form = self.source, None
        if self.source.isdecimal():
            form, pattern = _camera_format(self.source)
            name = pattern.format(self.source)
        else:
            options["protocol_whitelist"] = _ADDRESS_PROTOCOLS
            if self.source.lower().startswith("rtsp"):
                options["rtsp_transport"] = "tcp"  # over UDP a lost packet damages all frames up to the next key frame
        began = time.monotonic()
        try:
            return av.open(name, format=form, options=options, timeout=self.open_seconds)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if self.source.isdecimal():
                raise NotFound(
                    f"{self.shown} cannot be opened: it does not exist, is in use, or may not be read"
                ) from None
            self.fail(error, time.monotonic() - began)

    def _file(self) -> Any:
        path = Path(self.source)
        if "://" in self.source:
            raise InvalidRequest(f"{self.source.partition('://')[0]}:// is not a scheme of a video source")
        if not path.exists():
            raise NotFound(f"the file {path} does not exist")
        if path.is_dir():
            raise InvalidRequest(f"{path} is a folder, not a file")
        if path.stat().st_size == 0:
            raise UnreadableVideo(f"{path} is empty")
        try:
            return av.open(str(path), options={"protocol_whitelist": _FILE_PROTOCOLS})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.fail(error)

    def _checked_stream(self, container: Any) -> Any:
        if not container.streams.video:
            raise UnreadableVideo(f"{self.shown} has no video track")
        stream = container.streams.video[0]
        context = stream.codec_context
        if context is None or not context.name or context.name == "none":
            raise UnreadableVideo(f"{self.shown}: no decoder for its codec is installed")
        if context.width and context.height:
            check_pixels(context.width, context.height, self.limits)
        stream.thread_type = "AUTO"  # decode frames and slices in several threads
        return stream


def _camera_format(number: str) -> tuple[str, str]:
    import sys

    try:
        return _CAMERAS[sys.platform]
    except KeyError:
        raise NotFound(f"camera {number}: cameras are not supported on {sys.platform}") from None


class _Decoder:
    """Decodes the frames of one opened container, with their numbers and times."""

    def __init__(self, opening: _Opening, opened: _Opened) -> None:
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

    def __init__(self, opening: _Opening, opened: _Opened, frames_per_second: float | None) -> None:
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

    def __init__(self, opening: _Opening, opened: _Opened, frames_per_second: float | None) -> None:
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

    def _read(self, opened: _Opened) -> None:
        """Read until `close`. Frames of each connection continue the numbers and the clock."""
        failures = 0
        current: _Opened | None = opened
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

    def _read_connection(self, opened: _Opened) -> bool:
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
