"""Videos that tests make: people of the fake encoder who move, with or without sound."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from service.encoder.contract import Image
from service.encoder.fake_pictures import people_pixels

av = pytest.importorskip("av", reason="left out: the extra video is not installed")

RATE = 10
WIDTH, HEIGHT = 640, 360
_FACE = 128


class Scene(NamedTuple):
    """People side by side for some frames. They move to the right by `step` pixels a frame."""

    people: Sequence[str]
    frames: int
    step: int = 2
    brightness: float = 1.0


def draw_scene(scene: Scene, number: int) -> Image:
    """Frame `number` of a scene, RGB, shape (360, 640, 3)."""
    image = np.full((HEIGHT, WIDTH, 3), (150, 160, 150), dtype=np.uint8)
    for place, name in enumerate(scene.people):
        face = people_pixels([name], (_FACE * 4 // 3, _FACE * 4 // 3))
        left = 20 + place * 200 + number * scene.step
        image[90 : 90 + face.shape[0], left : left + face.shape[1]] = face
    return (image * scene.brightness).astype(np.uint8)


def save_video(
    path: Path, scenes: Sequence[Scene], *, sound: bool = False, options: dict[str, str] | None = None
) -> Path:
    """Write the scenes at ten frames a second, and return `path`."""
    with av.open(str(path), "w", options=options or {}) as output:
        video = output.add_stream("libx264", rate=RATE, options={"crf": "12", "g": "5", "bf": "0"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        tone = output.add_stream("aac", rate=44100) if sound else None
        count = 0
        for scene in scenes:
            for number in range(scene.frames):
                frame = av.VideoFrame.from_ndarray(draw_scene(scene, number), format="rgb24")
                frame.pts = count
                count += 1
                output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if tone is not None:
            _add_tone(output, tone, count / RATE)
    return path


def save_sound(path: Path, seconds: float = 1.0) -> Path:
    """Write a file with sound and no video."""
    with av.open(str(path), "w") as output:
        _add_tone(output, output.add_stream("aac", rate=44100), seconds)
    return path


def _add_tone(output: object, stream: object, seconds: float) -> None:
    samples = (np.sin(np.arange(int(44100 * seconds)) / 20) * 0.2).astype(np.float32)
    for begin in range(0, len(samples) - 1024, 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, begin
        output.mux(stream.encode(frame))  # type: ignore[attr-defined]
    output.mux(stream.encode(None))  # type: ignore[attr-defined]
