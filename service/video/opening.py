"""Opens a video file, an address or a camera with PyAV, and says in the catalogue's errors why it cannot.

FFmpeg reads playlists that name other files and addresses. So a file may refer to files only, and an address to
addresses only.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import av
import av.error

from service.encoder.images.decode import ImageLimits, check_pixels
from service.errors import InvalidRequest, NotFound, UnreadableVideo, VideoSourceUnavailable

OPEN_SECONDS: Final = 10.0
"""Longest wait for the first bytes of an address, and for each further piece."""

_LIVE_SCHEMES: Final = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt"})
_ADDRESS_SCHEMES: Final = _LIVE_SCHEMES | {"http", "https"}
_FILE_PROTOCOLS: Final = "file,crypto,data"
_ADDRESS_PROTOCOLS: Final = "http,https,tcp,tls,rtsp,rtp,udp,rtmp,rtmps,srt,crypto,data"
_CAMERAS: Final = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}


def open_container(source: str, limits: ImageLimits, open_seconds: float = OPEN_SECONDS) -> tuple[Any, Any]:
    """The open container of a source and its first video track, of PyAV. Raises the errors of `open_source`."""
    opened = Opening(source, limits, open_seconds).open()
    return opened.container, opened.stream


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
class OpenedVideo:
    """An open container and its first video track."""

    container: Any
    stream: Any

    @property
    def duration_seconds(self) -> float | None:
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        return None if self.container.duration is None else float(self.container.duration / av.time_base)


@dataclass(frozen=True)
class Opening:
    """How a source is opened, also again after it has failed."""

    source: str
    limits: ImageLimits
    open_seconds: float

    @property
    def shown(self) -> str:
        return f"camera {self.source}" if self.source.isdecimal() else shown_source(self.source)

    def open(self) -> OpenedVideo:
        """Open the container and check its video track."""
        container = self._container()
        try:
            return OpenedVideo(container, self._checked_stream(container))
        except BaseException:
            container.close()
            raise

    def is_live(self, opened: OpenedVideo) -> bool:
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
    try:
        return _CAMERAS[sys.platform]
    except KeyError:
        raise NotFound(f"camera {number}: cameras are not supported on {sys.platform}") from None
