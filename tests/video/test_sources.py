"""Sources: frames of files and addresses, and a clear error for each thing that can be wrong with them."""

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.encoder.images.decode import ImageLimits
from service.errors import (
    ImageTooLarge,
    InvalidRequest,
    NotFound,
    ServiceError,
    UnreadableVideo,
    VideoSourceUnavailable,
)
from tests.support.videos import HEIGHT, WIDTH, Scene, av, save_sound, save_video
from tests.support.waiting import GUARD_SECONDS

from service.video.opening import shown_source  # isort: skip
from service.video.sources import LiveSource, Pace, frames_of, open_source  # isort: skip - needs av

LIMITS = ImageLimits(10_000_000, 10_000_000)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ada for two seconds."""
    return save_video(tmp_path / "ada.mp4", [Scene(["ada"], 20)])


def numbers(source: str | Path, frames_per_second: float | None = None) -> list[int]:
    with open_source(str(source), LIMITS, frames_per_second) as opened:
        return [frame.number for frame in frames_of(opened)]


def test_every_frame_of_a_file_comes_in_order_with_its_time(video: Path) -> None:
    with open_source(str(video), LIMITS) as source:
        frames = list(frames_of(source))
        assert source.shortfall is None
    assert [frame.number for frame in frames] == list(range(20))
    assert [round(frame.seconds, 2) for frame in frames] == [number / 10 for number in range(20)]
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3)


def test_a_rate_limits_the_frames(video: Path) -> None:
    assert numbers(video, 5) == list(range(0, 20, 2))
    assert numbers(video, 1) == [0, 10]
    assert numbers(video, 100) == list(range(20))


def test_a_rate_that_does_not_divide_the_frames_is_kept_on_average() -> None:
    pace = Pace(10)
    taken = [number for number in range(300) if pace.takes(number / 30 + 0.001 * (number % 3))]
    assert len(taken) == 100


def test_a_phone_video_is_turned_upright(tmp_path: Path) -> None:
    plain = save_video(tmp_path / "plain.mp4", [Scene(["ada"], 3)])
    turned = tmp_path / "turned.mp4"
    with av.open(str(plain)) as read, av.open(str(turned), "w") as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        stream.set_display_rotation(90)
        for packet in read.demux(read.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    with open_source(str(turned), LIMITS) as source:
        frame = source.next_frame()
    assert frame is not None
    assert frame.image.shape == (WIDTH, HEIGHT, 3)


def test_a_file_that_is_not_a_video_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("this is not a video " * 100)
    refuse(text, UnreadableVideo, "not a video")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    refuse(tmp_path / "empty.mp4", UnreadableVideo, "is empty")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "missing.mp4", NotFound, "does not exist")
    refuse(tmp_path, InvalidRequest, "is a folder")


def test_a_file_without_a_video_track_is_refused(tmp_path: Path) -> None:
    refuse(save_sound(tmp_path / "sound.mp4"), UnreadableVideo, "no video track")


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        output.start_encoding()
    refuse(path, UnreadableVideo, "no frames")


def test_an_unknown_codec_is_named_as_the_reason(video: Path) -> None:
    video.write_bytes(video.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    refuse(video, UnreadableVideo, "codec")


def test_a_file_without_its_end_is_refused_if_nothing_can_be_read(video: Path) -> None:
    video.write_bytes(video.read_bytes()[:2000])  # the table of the frames is at the end of the file
    refuse(video, UnreadableVideo, "cut off")


def test_a_file_that_is_cut_off_gives_its_frames_and_says_what_is_missing(tmp_path: Path) -> None:
    path = save_video(tmp_path / "long.mp4", [Scene(["ada"], 60)], options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen: list[int] = []
    reason = ""
    with open_source(str(path), LIMITS) as source:
        try:
            seen += [frame.number for frame in frames_of(source)]
            reason = source.shortfall or ""
        except UnreadableVideo as error:
            reason = error.detail
    assert reason, "the end is missing and nothing says it"
    assert "long.mp4" in reason


def test_frames_of_too_many_pixels_are_refused_before_they_are_decoded(video: Path) -> None:
    with pytest.raises(ImageTooLarge):
        open_source(str(video), ImageLimits(10_000_000, WIDTH * HEIGHT - 1))


def test_an_unknown_scheme_is_refused() -> None:
    refuse("ftp://127.0.0.1/a.mp4", InvalidRequest, "ftp")


def test_a_playlist_in_a_file_reaches_no_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        playlist = tmp_path / "list.m3u8"
        playlist.write_text(f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{listening.getsockname()[1]}/a.ts\n")
        with pytest.raises(ServiceError):
            numbers(playlist)
        with pytest.raises(TimeoutError):
            listening.accept()


def test_an_address_that_refuses_connections_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    refuse(f"http://127.0.0.1:{port}/a.mp4", VideoSourceUnavailable, "cannot be opened")


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_an_address_that_hangs_is_given_up_and_its_password_is_not_shown(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}://ada:secret@127.0.0.1:{silent.getsockname()[1]}/live?token=abc"
        with pytest.raises(VideoSourceUnavailable) as raised:
            open_source(address, LIMITS, open_seconds=0.5)
    assert "secret" not in raised.value.detail
    assert "abc" not in raised.value.detail
    assert "127.0.0.1" in raised.value.detail


def test_an_address_is_shown_without_user_and_query() -> None:
    assert shown_source("rtsp://ada:pw@camera.local:554/live/1?key=2") == "rtsp://camera.local:554/live/1"


class _Handler(http.server.BaseHTTPRequestHandler):
    """Sends the content of the server: a recording with its length, or a stream without."""

    def do_GET(self) -> None:
        content: bytes = self.server.content  # type: ignore[attr-defined]
        self.server.requests += 1  # type: ignore[attr-defined]
        self.send_response(200)
        if self.path.endswith(".mp4"):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def web() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.requests = 0  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_recording_at_an_address_gives_every_frame(web: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.mp4", [Scene(["ada"], 20)], options={"movflags": "faststart"})
    web.content = path.read_bytes()  # type: ignore[attr-defined]
    assert numbers(f"http://127.0.0.1:{web.server_port}/a.mp4") == list(range(20))


def test_a_stream_that_ends_is_opened_again(web: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.ts", [Scene(["ada"], 20)])
    web.content = path.read_bytes()  # type: ignore[attr-defined]
    with open_source(f"http://127.0.0.1:{web.server_port}/live", LIMITS) as source:
        assert isinstance(source, LiveSource)
        frames = [source.next_frame()]
        while source.reconnections < 2:
            frames.append(source.next_frame())
    given = [frame.number for frame in frames if frame is not None]
    assert given == sorted(set(given)), "frames of a live source come once, in order"
    assert web.requests >= 3  # type: ignore[attr-defined]


def test_a_reader_that_is_closed_wakes_who_waits(web: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.ts", [Scene(["ada"], 5)])
    web.content = path.read_bytes()  # type: ignore[attr-defined]
    source = open_source(f"http://127.0.0.1:{web.server_port}/live", LIMITS)
    ended: list[bool] = []
    waiting = threading.Thread(target=lambda: ended.append(all(frame for frame in frames_of(source))))
    waiting.start()
    source.close()
    waiting.join(GUARD_SECONDS)
    assert ended == [True]


def refuse(source: str | Path, kind: type[ServiceError], words: str) -> None:
    with pytest.raises(kind) as raised:
        numbers(source)
    assert words in raised.value.detail, raised.value.detail
