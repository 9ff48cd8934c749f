"""Decoders in processes of their own: they give the same pixels, stay for the next image, and are killed."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from service.encoder.encoders import Encoders
from service.encoder.fake import FakeEncoder
from service.encoder.images import decoder_pool
from service.encoder.images.cancellation import Cancellation
from service.encoder.images.decode import MAXIMUM_WORK, ImageLimits, decode_here, decode_image
from service.encoder.images.decoder_pool import close_decoders, decode_apart
from service.errors import ImageTooLarge, UnreadableImage
from tests.encoder.images.test_formats import GOOD_FILES
from tests.support import bombs
from tests.support.encoders import LIMITS
from tests.support.waiting import wait_until

IN_PLACE_OF_THE_DECODER = """
import os, pathlib, sys, time
sys.stdin.buffer.readline()
place = pathlib.Path(sys.argv[1])
place.with_suffix(".new").write_text(str(os.getpid()))
place.with_suffix(".new").rename(place)
time.sleep(3600)
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A decoder that never answers. It writes its process id to the file when it has a request."""
    close_decoders()
    place = tmp_path / "started"
    monkeypatch.setattr(decoder_pool, "PROGRAM", [sys.executable, "-c", IN_PLACE_OF_THE_DECODER, str(place)])
    yield place
    close_decoders()


def has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("format", [name for name in GOOD_FILES if name != "HEIC"])
def test_another_process_gives_the_same_pixels(format: str) -> None:
    data = GOOD_FILES[format]
    assert np.array_equal(decode_apart(data, LIMITS.pixels, 1), decode_here(data, LIMITS))
    if format == "JPEG":
        assert np.array_equal(decode_apart(data, LIMITS.pixels, 4), decode_here(data, LIMITS, 4))


def test_another_process_gives_the_same_errors_and_goes_on() -> None:
    with pytest.raises(ImageTooLarge, match="40 x 20 pixels, at most 799"):
        decode_apart(GOOD_FILES["PNG"], 799, 1)
    with pytest.raises(UnreadableImage, match="cut off"):
        decode_apart(GOOD_FILES["PNG"][:-40], LIMITS.pixels, 1)
    assert decode_apart(GOOD_FILES["PNG"], LIMITS.pixels, 1).shape == (20, 40, 3)


def test_a_process_stays_for_the_next_image_until_it_has_done_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    close_decoders()
    monkeypatch.setattr(decoder_pool, "IMAGES_PER_PROCESS", 2)
    for number in (1, 2):
        decode_apart(GOOD_FILES["PNG"], LIMITS.pixels, 1)
        assert [decoder.images for decoder in decoder_pool._idle] == ([1] if number == 1 else [])


def test_images_of_much_work_and_unusual_codings_go_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("service.encoder.images.decode.decode_apart", lambda *_: asked.append("apart"))
    monkeypatch.setattr("service.encoder.images.decode.decode_here", lambda *_: asked.append("here"))
    side = int((MAXIMUM_WORK / 50) ** 0.5)
    for data in (
        bombs.jpeg_of_scans(50, side - 10, side - 10),
        bombs.jpeg_of_scans(51, side + 10, side + 10),
        bombs.bmp_of_runs(10),
        GOOD_FILES["TIFF of JPEG"],
        GOOD_FILES["TIFF of LZW"],
        GOOD_FILES["AVIF"],
    ):
        decode_image(data, LIMITS)
    assert asked == ["here", "apart", "apart", "apart", "here", "apart"]


def test_a_decoder_is_killed_when_nobody_waits_any_more(started: Path) -> None:
    cancellation = Cancellation()
    outcome: list[BaseException] = []

    def decode() -> None:
        try:
            decode_apart(GOOD_FILES["PNG"], LIMITS.pixels, 1, cancellation)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=decode)
    thread.start()
    wait_until(started.exists)
    cancellation.cancel()
    thread.join()
    assert [type(error) for error in outcome] == [CancelledError]
    assert has_ended(int(started.read_text()))
    with pytest.raises(CancelledError):
        decode_apart(GOOD_FILES["PNG"], LIMITS.pixels, 1, cancellation)


async def test_a_client_that_leaves_ends_the_decoding_of_its_image(started: Path) -> None:
    encoders = Encoders([FakeEncoder()], LIMITS, 200, threads=1)
    try:
        encoding = asyncio.create_task(encoders.encode(encoders.default, GOOD_FILES["AVIF"]))
        await asyncio.to_thread(wait_until, started.exists)
        encoding.cancel()
        await asyncio.gather(encoding, return_exceptions=True)
        wait_until(lambda: has_ended(int(started.read_text())))
        assert len(await encoders.detect(encoders.default, np.zeros((8, 8, 3), np.uint8))) == 0  # the thread is free
    finally:
        encoders.close()


def test_a_decoder_is_killed_after_its_deadline(started: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_pool, "LONGEST_SECONDS", 0.01)
    with pytest.raises(UnreadableImage, match="takes too long"):
        decode_apart(GOOD_FILES["PNG"], LIMITS.pixels, 1)


@pytest.mark.skipif(not hasattr(signal, "SIGXCPU"), reason="left out: this system has no limit of processor time")
def test_a_decoder_that_uses_too_much_processor_time_is_ended_by_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    close_decoders()
    program = "import service.encoder.images.decoder_process as child; child.SECONDS = 0; child.main()"
    monkeypatch.setattr(decoder_pool, "PROGRAM", [sys.executable, "-c", program])
    with pytest.raises(UnreadableImage, match="takes too long"):
        decode_image(bombs.bmp_of_runs(9_000_000), ImageLimits(10**8, LIMITS.pixels))
    assert decoder_pool._idle == []
