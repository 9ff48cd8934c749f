"""The analysis of made frames with the fake encoder: names, few readings, cuts, gaps and the annotated video."""

import os
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from service.embedding import Embedding
from service.encoder.encoders import Encoders
from service.encoder.fake_pictures import draw_people
from service.encoder.opening import open_encoders
from service.identity.in_memory import References
from service.settings import Settings
from tests.support.encoders import LIMITS
from tests.support.videos import RATE, Scene, av, draw_scene, save_video

from service.video.analysis import Analysis, AnalyzedFrame  # isort: skip - needs av
from service.video.readings import Identity  # isort: skip
from service.video.sources import Frame, frames_of, open_source  # isort: skip
from service.video.writing import write_annotated  # isort: skip


@pytest.fixture(scope="module")
def encoders(settings: Settings) -> Iterator[Encoders]:
    """The fake encoder, loaded."""
    opened = open_encoders(settings)
    yield opened
    opened.close()


class Searches:
    """A gallery of Ada and Bob in memory that counts its searches."""

    def __init__(self, references: References) -> None:
        self.references = references
        self.probes = 0

    async def __call__(self, probes: Sequence[Embedding]) -> list[Identity | None]:
        self.probes += len(probes)
        threshold = self.references.space.threshold
        nearest = self.references.nearest(probes)
        return [Identity(None, name, near) if name and near >= threshold else None for name, near in nearest]


@pytest.fixture
async def searches(encoders: Encoders) -> Searches:
    space = encoders.default
    faces = [(name, await encoders.encode(space, draw_people([name], variation=3))) for name in ("ada", "bob")]
    return Searches(References.of(space, [(name, found[0].embedding) for name, found in faces]))


async def watch(analysis: Analysis, scenes: Sequence[Scene]) -> list[AnalyzedFrame]:
    numbers = count()
    return [
        await analysis.analyze(Frame(number, number / RATE, draw_scene(scene, place)))
        for scene in scenes
        for place in range(scene.frames)
        for number in [next(numbers)]
    ]


def names(frame: AnalyzedFrame) -> list[str | None]:
    """Names from left to right."""
    faces = sorted(frame.faces, key=lambda seen: seen.face.box.left)
    return [None if seen.identity is None else seen.identity.name for seen in faces]


async def test_people_are_named_in_every_frame_and_read_in_a_few(encoders: Encoders, searches: Searches) -> None:
    analysis = Analysis(encoders, encoders.default, searches)
    frames = await watch(analysis, [Scene(["bob", "zoe", "ada"], 40, step=1)])
    assert [names(frame) for frame in frames] == [["bob", None, "ada"]] * 40
    assert {tuple(sorted(seen.track for seen in frame.faces)) for frame in frames} == {(1, 2, 3)}
    assert analysis.readings == searches.probes
    assert 3 < searches.probes < 40, "three faces in 40 frames"


async def test_a_face_behind_a_cut_does_not_inherit_the_name(encoders: Encoders, searches: Searches) -> None:
    """Zoe stands where Ada stood, and nothing but the light tells the scenes apart."""
    scenes = [Scene(["ada"], 10, step=0), Scene(["zoe"], 10, step=0, brightness=0.4)]
    frames = await watch(Analysis(encoders, encoders.default, searches), scenes)
    assert [names(frame) for frame in frames] == [["ada"]] * 10 + [[None]] * 10


async def test_another_person_in_the_same_place_never_has_the_name(encoders: Encoders, searches: Searches) -> None:
    """There is no cut: the rest of the image and its light stay."""
    scenes = [Scene(["ada"], 10, step=0), Scene(["zoe"], 5, step=0), Scene(["bob"], 10, step=0)]
    frames = await watch(Analysis(encoders, encoders.default, searches), scenes)
    assert [names(frame) for frame in frames[:15]] == [["ada"]] * 10 + [[None]] * 5
    assert names(frames[-1]) == ["bob"]
    assert {name for frame in frames[15:] for name in names(frame)} <= {"bob", None}
    assert len({frame.faces[0].track for frame in frames}) == 3


async def test_a_person_who_comes_back_continues_the_track(encoders: Encoders, searches: Searches) -> None:
    frames = await watch(
        Analysis(encoders, encoders.default, searches),
        [Scene(["ada"], 10, step=0), Scene([], 30), Scene(["zoe", "ada"], 10, step=0)],
    )
    assert names(frames[-1]) == [None, "ada"]
    tracks = {seen.identity.name: seen.track for seen in frames[-1].faces if seen.identity is not None}
    assert tracks == {"ada": frames[0].faces[0].track}


async def test_faces_are_followed_without_a_gallery(encoders: Encoders) -> None:
    analysis = Analysis(encoders, encoders.default, None)
    frames = await watch(analysis, [Scene(["ada", "bob"], 10)])
    assert {seen.track for frame in frames for seen in frame.faces} == {1, 2}
    assert analysis.readings == 0


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
async def test_the_annotated_video_has_every_frame_steady_boxes_and_the_sound(
    encoders: Encoders, searches: Searches, tmp_path: Path, ending: str
) -> None:
    source = save_video(tmp_path / "clip.mp4", [Scene(["ada", "zoe"], 20)], sound=True)
    target = tmp_path / f"out{ending}"
    frames, found = await analyze(encoders, searches, source, frames_per_second=2)
    write_annotated(str(source), target, frames, found, LIMITS)
    with av.open(str(target)) as written:
        pictures = [frame.to_ndarray(format="rgb24") for frame in written.decode(video=0)]
    assert len(pictures) == 20
    plain = [draw_scene(Scene(["ada", "zoe"], 20), number) for number in range(20)]
    # The label of Ada is green, above her face, in every frame; the label of Zoe is amber.
    for number, (picture, before) in enumerate(zip(pictures, plain, strict=True)):
        changed = np.abs(picture.astype(int) - before.astype(int)).max(axis=2) > 80
        left = 20 + number * 2
        assert changed[60:90, left : left + 60].any(), number
        green = picture[..., 1].astype(int) - picture[..., 0] > 100
        assert green[60:105, left : left + 100].any(), number
        assert not green[60:105, left + 215 : left + 300].any(), number
    assert sound_of(target) == sound_of(source)
    assert sorted(os.listdir(tmp_path)) == sorted(["clip.mp4", target.name])


async def test_sound_that_the_format_does_not_take_is_encoded_again(
    encoders: Encoders, searches: Searches, tmp_path: Path
) -> None:
    source = tmp_path / "clip.mov"
    plain = save_video(tmp_path / "plain.mkv", [Scene(["ada"], 10)], sound=True)
    with av.open(str(plain)) as read, av.open(str(source), "w") as output:
        video = output.add_stream_from_template(read.streams.video[0])
        speech = output.add_stream("pcm_mulaw", rate=44100, layout="mono")
        for packet in read.demux(read.streams.video[0], read.streams.audio[0]):
            if packet.stream.type == "audio":
                for frame in packet.decode():
                    output.mux(speech.encode(frame))
            elif packet.dts is not None:
                packet.stream = video
                output.mux(packet)
        output.mux(speech.encode(None))
    frames, found = await analyze(encoders, searches, source)
    write_annotated(str(source), tmp_path / "out.mp4", frames, found, LIMITS)
    with av.open(str(tmp_path / "out.mp4")) as written:
        assert written.streams.audio[0].codec_context.name == "aac"
        assert sum(frame.samples for frame in written.decode(audio=0)) > 30_000


async def analyze(
    encoders: Encoders, searches: Searches, source: Path, frames_per_second: float | None = None
) -> tuple[list[AnalyzedFrame], dict[int, Identity]]:
    analysis = Analysis(encoders, encoders.default, searches)
    with open_source(str(source), LIMITS, frames_per_second) as opened:
        frames = [await analysis.analyze(frame) for frame in frames_of(opened)]
    found = {seen.track: seen.identity for frame in frames for seen in frame.faces if seen.identity is not None}
    return frames, found


def sound_of(path: Path) -> list[bytes]:
    """The packets of the sound."""
    with av.open(str(path)) as opened:
        return [bytes(packet) for packet in opened.demux(opened.streams.audio[0]) if packet.dts is not None]
