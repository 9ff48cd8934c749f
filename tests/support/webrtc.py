"""A WebRTC peer (aiortc) that sends a made video, and collects what comes back."""

import asyncio
import fractions
import json
from collections.abc import Sequence
from typing import Any

import pytest

from service.encoder.contract import Image
from tests.support.videos import Scene, av, draw_scene
from tests.support.waiting import GUARD_SECONDS

pytest.importorskip("aiortc", reason="left out: the extra video is not installed")

from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

RATE = 15


class CameraTrack(MediaStreamTrack):
    """People who stand still, for as long as somebody reads."""

    kind = "video"

    def __init__(self, people: Sequence[str]) -> None:
        super().__init__()
        self._picture = draw_scene(Scene(people, 1), 0)
        self.sent = 0

    async def recv(self) -> Any:
        """The next frame."""
        await asyncio.sleep(1 / RATE)
        frame = av.VideoFrame.from_ndarray(self._picture, format="rgb24")
        frame.pts, frame.time_base = self.sent, fractions.Fraction(1, RATE)
        self.sent += 1
        return frame


class CameraPeer:
    """A client that sends its camera. Close it, or let it vanish."""

    def __init__(self, people: Sequence[str]) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.camera = CameraTrack(people)
        self.results: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._returned: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.connection.addTrack(self.camera)
        channel = self.connection.createDataChannel("results")
        channel.on("message", lambda text: self.results.put_nowait(json.loads(text)))
        self.connection.on("track", self._returned.set_result)

    async def offer(self) -> dict[str, str]:
        """The offer, with the fields of `/v1`."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        local = self.connection.localDescription
        return {"sdp": local.sdp, "type": local.type}

    async def accept(self, answer: dict[str, str]) -> None:
        """Take the server's answer, and connect."""
        await self.connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))

    async def result_with_faces(self, count: int) -> dict[str, Any]:
        """The next result that shows that number of faces, all of them decided."""
        while True:
            result = await asyncio.wait_for(self.results.get(), GUARD_SECONDS)
            if "faces" not in result or len(result["faces"]) == count:
                return result

    async def returned_image(self) -> Image:
        """The next frame that the server sends, RGB."""
        track = await asyncio.wait_for(self._returned, GUARD_SECONDS)
        frame = await asyncio.wait_for(track.recv(), GUARD_SECONDS)
        image: Image = frame.to_ndarray(format="rgb24")
        return image

    async def vanish(self) -> None:
        """Stop to send and to answer, without a goodbye."""
        for transport in {sender.transport for sender in self.connection.getSenders()}:
            await transport.transport._connection.close()

    async def close(self) -> None:
        """Close the connection."""
        await self.connection.close()
