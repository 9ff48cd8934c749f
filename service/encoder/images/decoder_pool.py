"""Decodes images in processes that can be killed: those whose decoder could take long, or much memory.

Three reasons for a process: a decoder in C cannot be stopped otherwise, neither after a deadline nor when the client
has left; the coded pixels of an AVIF or HEIC are not bounded by the size in the header (2 KB that claim 64 x 64 pixels
took 300 MB); and a crash of a decoder must not end the server.

A process takes 0.3 s to start, so it stays for the next image. The pixels come back through a pipe. A photograph of 12
megapixels took 1.5 times as long that way, which is why usual images are decoded in the server itself
(docs/decisions/0016-images-are-decoded-within-bounds.md).
"""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from io import BufferedReader
from typing import Final, cast

import numpy as np

from service.encoder.contract import Image
from service.encoder.images.cancellation import Cancellation
from service.errors import ImageTooLarge, ServiceError, UnreadableImage, UnsupportedImageFormat

PROGRAM: Final = [sys.executable, "-P", "-m", "service.encoder.images.decoder_process"]
LONGEST_SECONDS: Final = 100.0
"""By the clock, on a busy machine. The process itself is limited to 10 seconds of the processor."""
IMAGES_PER_PROCESS: Final = 100
"""Then a new process begins, because the memory of an old one is in pieces."""
_MOST_IDLE: Final = 2
_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ of Linux: 64 KiB, its default, cost 40 % more
_PIPE_BYTES: Final = 1024 * 1024
_OUT_OF_TIME: Final = -24  # SIGXCPU
_ERRORS: Final[dict[str, type[ServiceError]]] = {
    error.__name__: error for error in (ImageTooLarge, UnreadableImage, UnsupportedImageFormat)
}

_idle: list["_Decoder"] = []
_lock = threading.Lock()


def decode_apart(data: bytes, pixels: int, reduction: int, cancellation: Cancellation | None = None) -> Image:
    """Decode a file of at most `pixels` in another process. Raises the errors of decode_image, and MemoryError if no
    process can be started.
    """
    cancellation = cancellation or Cancellation()
    cancellation.raise_if_set()
    decoder = _take()
    try:
        image = decoder.decode(data, pixels, reduction, cancellation)
    except BaseException as error:
        if isinstance(error, ServiceError) and not decoder.has_ended:  # the image was refused, and the process is well
            _give_back(decoder)
        else:
            decoder.kill()
        raise
    _give_back(decoder)
    return image


def _take() -> "_Decoder":
    with _lock:
        while _idle:
            if not (decoder := _idle.pop()).has_ended:
                return decoder
    return _Decoder()


def _give_back(decoder: "_Decoder") -> None:
    with _lock:
        if len(_idle) < _MOST_IDLE and decoder.images < IMAGES_PER_PROCESS:
            _idle.append(decoder)
            return
    decoder.kill()


@atexit.register
def close_decoders() -> None:
    """End the processes that wait for an image."""
    with _lock:
        idle, _idle[:] = _idle[:], []
    for decoder in idle:
        decoder.kill()


class _Decoder:
    """One process. It ends by itself when this process ends, because its input ends then."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(  # noqa: S603
                PROGRAM,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # decoders in C write bare lines
                env=environment,
            )
        except OSError as error:  # no process, no memory or no file descriptor is free
            raise MemoryError from error
        self.images = 0
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.fcntl(self._process.stdout.fileno(), _SET_PIPE_SIZE, _PIPE_BYTES)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def decode(self, data: bytes, pixels: int, reduction: int, cancellation: Cancellation) -> Image:
        self.images += 1
        late = threading.Timer(LONGEST_SECONDS, self._process.kill)
        late.start()
        try:
            with cancellation.calls(self._process.kill):
                image = self._ask(data, pixels, reduction)
        finally:
            late.cancel()
        if image is None:
            cancellation.raise_if_set()
            is_late = late.finished.is_set() and self._process.wait() == -9
            raise UnreadableImage(
                "it takes too long to decode"
                if self._process.wait() == _OUT_OF_TIME or is_late
                else "its content is damaged"
            )
        return image

    def _ask(self, data: bytes, pixels: int, reduction: int) -> Image | None:
        """The image, or None if the process has ended."""
        to, answers = self._process.stdin, self._process.stdout
        assert to is not None  # noqa: S101 - they were asked for
        assert answers is not None  # noqa: S101
        try:
            request = {"bytes": len(data), "pixels": pixels, "reduction": reduction}
            to.write(json.dumps(request).encode() + b"\n" + data)
            to.flush()
            head = json.loads(answers.readline() or "{}")
        except (BrokenPipeError, ValueError):
            return None
        if head.get("error") == "memory":
            raise ImageTooLarge(f"it takes more memory than an image of {pixels} pixels")
        if "error" in head:
            raise _ERRORS[head["error"]](head["detail"])
        if "shape" not in head:
            return None
        image = np.empty(head["shape"], np.uint8)
        received = cast(BufferedReader, answers).readinto(image.data.cast("B"))
        return image if received == image.nbytes else None

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        self._process.wait()
