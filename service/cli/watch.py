"""`face-identity watch`: who appears in a video file, a stream or in front of a camera, from when to when."""

import contextlib
import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.context import CommandContext, asynchronous, open_context, read_settings
from service.cli.encoders import encoders_for
from service.cli.exits import ExitCode
from service.cli.files import tell_missing_characters
from service.cli.options import (
    DEFAULT_GALLERY,
    DEFAULT_TENANT,
    GalleryNames,
    MetadataFilter,
    TenantName,
    Threshold,
    json_object,
)
from service.cli.output import Json, progress, remark, write_json, write_table
from service.errors import InvalidRequest, UnreadableVideo

if TYPE_CHECKING:
    from service.encoder.images.decode import ImageLimits
    from service.settings import Settings
    from service.video.analysis import Analysis, AnalyzedFrame
    from service.video.appearances import Appearance
    from service.video.readings import Identity
    from service.video.sources import Source

DEFAULT_RATE = 10.0
"""Frames a second that are analyzed. People stay for longer than a tenth of a second."""

_VIDEO_ENDINGS = {
    ".3gp",
    ".avi",
    ".flv",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ts",
    ".webm",
    ".wmv",
}

FrameRate = Annotated[
    float, typer.Option("--fps", min=0.1, max=240.0, help="Most frames a second that are analyzed.", metavar="N")
]
AnnotatedVideo = Annotated[
    Path | None,
    typer.Option(
        "--annotate",
        metavar="OUT",
        help="Write the video with boxes and names, and its sound, to this .mp4 or .mkv file.",
    ),
]


def is_video(path: str) -> bool:
    """Whether a file is a video by the ending of its name."""
    return Path(path).suffix.lower() in _VIDEO_ENDINGS


@asynchronous
async def watch(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A video file, an address (rtsp, rtmp, http) or the number of a camera."),
    ],
    *,
    annotated: AnnotatedVideo = None,
    rate: FrameRate = DEFAULT_RATE,
    threshold: Threshold = None,
    metadata: MetadataFilter = None,
    galleries: GalleryNames = None,
    tenant: TenantName = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Identify the people in a video, a stream or in front of a camera.

    Prints the appearances: who was seen, from when to when, and the most similar frame. Faces are followed over frames,
    and each is recognized a few times only. A stream or a camera is watched until Ctrl-C. --json prints one line for
    each analyzed frame and each appearance. Exit code 3: the video is cut off or damaged, and was analyzed to there.
    """
    names = galleries or [DEFAULT_GALLERY]
    options = {"threshold": threshold, "metadata": json_object(metadata)}
    async with open_video(source, rate, annotated, read_settings()) as video, open_context(tenant) as context:
        await recognize_video(context, video, names[0] if len(names) == 1 else names, options, as_json)


@dataclass(frozen=True)
class Video:
    """An opened source, and the file to write the annotated video to."""

    name: str
    source: "Source"
    limits: "ImageLimits"
    annotated: Path | None


@contextlib.asynccontextmanager
async def open_video(name: str, rate: float, annotated: Path | None, settings: "Settings") -> AsyncIterator[Video]:
    """Open a source. Everything that can be wrong with it is found before the database and the models are opened."""
    import asyncio

    from service.encoder.images.decode import ImageLimits
    from service.video.extra import require_video

    require_video()
    from service.video.sources import open_source
    from service.video.writing import check_annotated

    if annotated is not None:
        check_annotated(annotated)
    limits = ImageLimits(settings.maximum_image_bytes, settings.maximum_image_pixels)
    source = await asyncio.to_thread(open_source, name, limits, rate)
    try:
        if annotated is not None and source.is_live:
            raise InvalidRequest("--annotate needs a video with an end, not a stream or a camera")
        yield Video(name, source, limits, annotated)
    finally:
        await asyncio.to_thread(source.close)


async def recognize_video(
    context: CommandContext, video: Video, where: str | list[str], options: dict[str, Any], as_json: bool
) -> None:
    """Watch a video with the people of the galleries `where`. `options` are those of the search."""
    from service.identity.review import Review
    from service.identity.spaces import find_galleries
    from service.video.analysis import Analysis
    from service.video.gallery_search import search_galleries_of

    async with context.session() as session:
        found = await find_galleries(session, [where] if isinstance(where, str) else where, for_pictures=True)
    for gallery in found:
        gallery.check_identification()
    with encoders_for(context.settings, found[0].space) as encoders:
        search = search_galleries_of(context.session, where, **options)
        analysis = Analysis(encoders, found[0].space, search, Review.of(context.settings))
        await show_video(video, analysis, as_json)


async def show_video(video: Video, analysis: "Analysis", as_json: bool) -> None:
    """Analyze a video and print the result. Ends with the exit code 3 if the video is cut off or damaged."""
    import asyncio

    seen = _Seen(as_json, keeps_frames=video.annotated is not None)
    incomplete: str | None = None
    with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C ends a stream; the appearances so far are printed
        incomplete = await _analyze(video, analysis, seen)
    seen.finish()
    if video.annotated is not None:
        await _write(video, video.annotated, seen, as_json)
    if not as_json:
        _print_appearances(seen.appearances)
    if incomplete is not None:
        remark(incomplete)
        raise typer.Exit(ExitCode.PARTLY)


@dataclass
class _Seen:
    """What was seen so far. With `--json` it is printed at once."""

    as_json: bool
    keeps_frames: bool
    appearances: "list[Appearance]" = field(default_factory=list)
    frames: "list[AnalyzedFrame]" = field(default_factory=list)
    names: "dict[int, Identity]" = field(default_factory=dict)
    """The last identity of each track that has one."""

    def __post_init__(self) -> None:
        from service.video.appearances import Appearances

        self._current = Appearances()

    def add(self, frame: "AnalyzedFrame") -> None:
        """Take the next frame."""
        self.names |= {face.track: face.identity for face in frame.faces if face.identity is not None}
        if self.keeps_frames:
            self.frames.append(frame)
        if self.as_json:
            from service.video.lines import frame_fields

            write_json(frame_fields(frame))
        self._end(self._current.add(frame))

    def finish(self) -> None:
        """End the appearances that are left."""
        self._end(self._current.finish())

    def _end(self, over: "list[Appearance]") -> None:
        if self.as_json:
            from service.video.lines import appearance_fields

            for appearance in over:
                write_json({"appearance": appearance_fields(appearance)})
        else:
            self.appearances += over


async def _analyze(video: Video, analysis: "Analysis", seen: _Seen) -> str | None:
    """Analyze every frame. Returns a sentence about the missing part of the video, or None."""
    import asyncio

    is_first = True
    with progress(quiet=seen.as_json) as bar:
        task = bar.add_task("watching", total=video.source.duration_seconds)
        try:
            while (frame := await asyncio.to_thread(video.source.next_frame)) is not None:
                seen.add(await analysis.analyze(frame))
                bar.update(task, completed=round(frame.seconds))
                is_first = False
        except UnreadableVideo as error:
            if is_first:
                raise
            return error.detail
    return video.source.shortfall


async def _write(video: Video, target: Path, seen: _Seen, as_json: bool) -> None:
    import asyncio

    from service.video.writing import write_annotated

    tell_missing_characters([identity.name for identity in seen.names.values()])
    with progress(quiet=as_json) as bar:
        task = bar.add_task("writing", total=video.source.duration_seconds)

        def tell(seconds: float) -> None:
            bar.update(task, completed=round(seconds))

        work = functools.partial(write_annotated, tell_seconds=tell)
        await asyncio.to_thread(work, video.name, target, seen.frames, seen.names, video.limits)


def _print_appearances(appearances: "list[Appearance]") -> None:
    rows = [
        [
            "unknown" if one.name is None else one.name,
            clock(one.from_seconds),
            clock(one.to_seconds),
            one.best_similarity if one.name is not None else None,
            f"{one.best_frame} ({clock(one.best_seconds)})",
        ]
        for one in sorted(appearances, key=lambda one: one.from_seconds)
    ]
    write_table(["person", "from", "to", "best similarity", "best frame"], rows, "The video shows no face.")


def clock(seconds: float) -> str:
    """A time in a video, as 1:02:03.4 or 2:03.4."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    shown = f"{minutes % 60:02}:{rest / 10:04.1f}" if minutes >= 60 else f"{minutes}:{rest / 10:04.1f}"
    return f"{minutes // 60}:{shown}" if minutes >= 60 else shown
