"""WebRTC peers (aiortc): a peer sends its camera, and gets the video back with boxes and names, and results as JSON.

Three tasks share the newest frame and never wait for each other. The first always reads what arrives, because aiortc's
queue of received frames has no bound. The second analyzes. The third is aiortc's sender: it draws the last known faces
on the newest frame, so that the video is not delayed by the analysis.

A peer ends if it closes, fails, vanishes (aioice misses its consent for half a minute), never connects, sends no frame
for a minute, or if its permission ends. aiortc adds Google's STUN server by default; the empty list here prevents it.
"""

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from service.encoder.contract import Image
from service.encoder.images.annotate import draw_faces
from service.encoder.images.decode import ImageLimits
from service.errors import InvalidRequest, RetryLater, ServiceError
from service.telemetry import logger
from service.video.analysis import Analysis, AnalyzedFrame, TrackedFace
from service.video.lines import frame_fields
from service.video.sources import Frame, Pace, upright_pixels
from service.video.streams import Streams

CONNECT_SECONDS: Final = 30.0
"""Time in which a peer must connect and send its first frame."""
SILENT_SECONDS: Final = 60.0
PERMIT_SECONDS: Final = 10.0
"""How often the permission of a stream is asked for again."""
ANALYZED_RATE: Final = 10.0
_MOST_BUFFERED_BYTES: Final = 64 * 1024
"""Results that wait in the data channel. A peer that does not read them loses the next ones."""

for _name in ("aiortc", "aioice"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # their remarks hold the addresses of peers


@dataclass(frozen=True)
class Description:
    """A session description of WebRTC: `type` is "offer" or "answer"."""

    sdp: str
    type: str


@dataclass(frozen=True)
class Drawing:
    """How faces are drawn: the label of a face and its place (from 0) in the frame, and whether to draw landmarks."""

    label: Callable[[TrackedFace, int], str]
    has_landmarks: bool = False
    marks_unknown: bool = True


@dataclass(frozen=True)
class StreamOptions:
    """What a stream does with frames, and who may go on."""

    tenant_id: int
    analysis: Analysis
    drawing: Drawing
    limits: ImageLimits
    permit: Callable[[], Awaitable[None]]
    """Asked every ten seconds. RetryLater pauses the analysis, any other ServiceError ends the stream."""


async def open_stream(offer: Description, streams: Streams, options: StreamOptions) -> Description:
    """Answer the offer of a peer, which is then served until it ends.

    Raises InvalidRequest if the offer cannot be understood or has no video, TooManyRequests or Overloaded over the
    limits of `streams`.
    """
    peer = Peer(streams, options)
    streams.enter(peer)
    try:
        return await peer.answer(offer)
    except BaseException:
        await peer.close()
        raise


class Peer:
    """One peer and its tasks."""

    def __init__(self, streams: Streams, options: StreamOptions) -> None:
        self.tenant_id = options.tenant_id
        self._streams = streams
        self._options = options
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=_servers(streams.ice_servers)))
        self._newest = _Newest()
        self._tasks: set[asyncio.Task[None]] = set()
        self._channel: Any = None
        self._analyzed: AnalyzedFrame | None = None
        self._may_analyze = True
        self._is_closed = False
        self._has_video = False
        self._connection.on("track", self._take_track)
        self._connection.on("datachannel", self._take_channel)
        self._connection.on("connectionstatechange", self._follow_state)

    async def answer(self, offer: Description) -> Description:
        """Connect to the peer that made the offer."""
        if offer.type != "offer":
            raise InvalidRequest("type: must be offer")
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(offer.sdp, offer.type))
            if not self._has_video:
                raise InvalidRequest("sdp: the offer has no video that is sent to the server")
            await self._connection.setLocalDescription(await self._connection.createAnswer())
        except ServiceError:
            raise
        except Exception:  # aiortc raises many classes for an SDP that it cannot parse or agree with
            raise InvalidRequest("sdp: it is not a valid offer of WebRTC") from None
        self._start(self._end_if_silent())
        self._start(self._ask_permission())
        local = self._connection.localDescription
        return Description(local.sdp, local.type)

    async def close(self) -> None:
        """End the connection and all tasks."""
        if self._is_closed:
            return
        self._is_closed = True
        self._streams.leave(self)
        current = asyncio.current_task()
        ending = [task for task in self._tasks if task is not current]
        for task in ending:
            task.cancel()
        self._newest.end()
        with contextlib.suppress(Exception):  # a connection that has failed half-way cannot say goodbye
            await self._connection.close()
        await asyncio.gather(*ending, return_exceptions=True)

    def draw(self, received: "_Received") -> Any:
        """A frame of PyAV with the faces that were last seen. Blocks."""
        analyzed = self._analyzed
        faces = () if analyzed is None else analyzed.faces
        image = _drawn(received.pixels(self._options.limits), faces, self._options.drawing)
        made = av.VideoFrame.from_ndarray(image, format="rgb24")
        made.pts, made.time_base = received.frame.pts, received.frame.time_base
        return made

    def _take_track(self, track: Any) -> None:
        """Called by aiortc for each track that the peer sends."""
        if track.kind != "video" or self._has_video:
            self._start(_drain(track))
            return
        self._has_video = True
        self._connection.addTrack(_AnnotatedTrack(self, self._newest))
        self._start(self._receive(track))
        self._start(self._analyze())

    def _take_channel(self, channel: Any) -> None:
        self._channel = channel

    async def _follow_state(self) -> None:
        if self._connection.connectionState in {"failed", "closed"}:
            await self.close()

    async def _receive(self, track: Any) -> None:
        """Read every frame that arrives, and keep the newest."""
        with contextlib.suppress(MediaStreamError):
            while True:
                self._newest.put(await track.recv())
        self._end_soon()

    async def _analyze(self) -> None:
        """Analyze the newest frame, ten times a second at most."""
        began, pace, number = time.monotonic(), Pace(ANALYZED_RATE), 0
        try:
            while True:
                number, received = await self._newest.after(number)
                seconds = time.monotonic() - began
                if not self._may_analyze or not pace.takes(seconds):
                    continue
                pixels = await asyncio.to_thread(received.pixels, self._options.limits)
                with contextlib.suppress(RetryLater):  # the server has too much to do: this frame is left out
                    self._analyzed = await self._options.analysis.analyze(Frame(number, seconds, pixels))
                    height, width, _ = pixels.shape
                    self._send(frame_fields(self._analyzed) | {"width": width, "height": height})
        except MediaStreamError:
            return
        except ServiceError as error:
            self._end_for(error)
        except Exception as error:  # the stream ends, and the server goes on
            logger("video").error("stream failed", kind=type(error).__qualname__)
            self._end_soon()

    async def _ask_permission(self) -> None:
        """Ask again and again whether the stream may go on."""
        while True:
            await asyncio.sleep(PERMIT_SECONDS)
            try:
                await self._options.permit()
                self._may_analyze = True
            except RetryLater:
                self._may_analyze = False
            except ServiceError as error:
                if error.status >= 500:  # the database is away for a moment
                    continue
                self._end_for(error)
                return

    async def _end_if_silent(self) -> None:
        """End the peer if it never connects, or sends nothing for long."""
        try:
            await asyncio.wait_for(self._newest.after(0), CONNECT_SECONDS)
            while True:
                last = self._newest.number
                await asyncio.wait_for(self._newest.after(last), SILENT_SECONDS)
                await asyncio.sleep(1)
        except (TimeoutError, MediaStreamError):
            self._end_soon()

    def _send(self, fields: dict[str, Any]) -> None:
        """Send JSON on the data channel, if the peer has opened one and reads it."""
        channel = self._channel
        if channel is None or channel.readyState != "open" or channel.bufferedAmount > _MOST_BUFFERED_BYTES:
            return
        channel.send(json.dumps(fields, ensure_ascii=False))

    def _end_for(self, error: ServiceError) -> None:
        """Tell the peer why the stream ends, and end it."""
        with contextlib.suppress(Exception):
            self._send({"error": {"slug": error.slug, "title": error.title}})
        self._end_soon()

    def _end_soon(self) -> None:
        """Close the peer from a task that is not one of its own."""
        if not self._is_closed:
            closing = asyncio.ensure_future(self.close())
            _CLOSING.add(closing)
            closing.add_done_callback(_CLOSING.discard)

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name="video-peer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_CLOSING: set[asyncio.Future[None]] = set()
"""Peers that are being closed. The event loop itself refers to tasks only weakly."""


class _Received:
    """A frame of PyAV that several tasks use."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame
        self._pixels: Image | None = None
        self._lock = threading.Lock()

    def pixels(self, limits: ImageLimits) -> Image:
        """The upright pixels, RGB, which nobody may change. Blocks.

        PyAV keeps a scaler in each frame and releases the interpreter while it runs. Two threads that convert one frame
        at a time crash the process, or never return. So a frame is converted once, under a lock.
        """
        with self._lock:
            if self._pixels is None:
                self._pixels = upright_pixels(self.frame, limits)
            return self._pixels


class _Newest:
    """The newest frame, for several tasks that each want every new one or skip some."""

    def __init__(self) -> None:
        self.number = 0
        self._frame: _Received | None = None
        self._is_over = False
        self._changed = asyncio.Event()

    def put(self, frame: Any) -> None:
        """Replace the frame by a newer one of PyAV."""
        self.number += 1
        self._frame = _Received(frame)
        self._wake()

    def end(self) -> None:
        """There is no further frame."""
        self._is_over = True
        self._frame = None
        self._wake()

    async def after(self, number: int) -> tuple[int, _Received]:
        """Wait for a frame after that of `number` (0: the first), and return its number too. Raises MediaStreamError at
        the end.
        """
        while self.number <= number and not self._is_over:
            await self._changed.wait()
        if self._is_over or self._frame is None:
            raise MediaStreamError
        return self.number, self._frame

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class _AnnotatedTrack(MediaStreamTrack):
    """The track that goes back to the peer."""

    kind = "video"

    def __init__(self, peer: Peer, newest: _Newest) -> None:
        super().__init__()
        self._peer = peer
        self._source = newest
        self._number = 0

    async def recv(self) -> Any:
        """The newest frame with the faces that were last seen. Called by aiortc."""
        self._number, received = await self._source.after(self._number)
        return await asyncio.to_thread(self._peer.draw, received)


async def _drain(track: Any) -> None:
    """Read and forget what arrives, because it would pile up."""
    with contextlib.suppress(MediaStreamError):
        while True:
            await track.recv()


def _drawn(image: Image, faces: Sequence[TrackedFace], drawing: Drawing) -> Image:
    boxes = [(seen.face.box, drawing.label(seen, place)) for place, seen in enumerate(faces)]
    landmarks = [seen.face.landmarks for seen in faces] if drawing.has_landmarks else []
    unknown = {place for place, seen in enumerate(faces) if seen.identity is None} if drawing.marks_unknown else set()
    return np.ascontiguousarray(draw_faces(image, boxes, landmarks, unknown))


def _servers(addresses: Sequence[str]) -> list[Any]:
    """The servers of `stun:HOST:PORT` and `turn:USER:PASSWORD@HOST:PORT`."""
    servers = []
    for address in addresses:
        scheme, _, rest = address.partition(":")
        login, at, host = rest.rpartition("@")
        user, _, password = login.partition(":")
        named = {"username": user, "credential": password} if at else {}
        servers.append(RTCIceServer(urls=f"{scheme}:{host}", **named))
    return servers
