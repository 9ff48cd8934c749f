"""The program of a decoder process: decodes one image after the other; `decoder_pool` starts it and speaks with it.

A request is a line of JSON, then the file. The answer is a line of JSON with `shape` and then the pixels, or with
`error` (a class of the error catalogue, or "memory") and `detail`. The process ends with its input.

Each image gets its own limits of processor time and memory. The system ends the process that exceeds the first
(SIGXCPU), also inside a decoder in C, where no signal handler of Python runs.
"""

import contextlib
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from service.encoder.contract import Image
from service.encoder.images.decode import ImageLimits, decode_here
from service.errors import ImageTooLarge, UnreadableImage, UnsupportedImageFormat

BYTES_PER_PIXEL = 20
"""Memory of a decoder for each pixel that is allowed. AVIF needs 9, and the RGB pixels and the answer 10."""
SPARE_BYTES = 64 * 1024 * 1024
"""For the file itself and the tables of a decoder."""
SECONDS = 10
"""Processor seconds of an image. One of 50 megapixels takes about one in the slowest usual format."""


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the server and its children at once
    base_bytes = _address_bytes()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while line := requests.readline():
        asked = json.loads(line)
        data = requests.read(asked["bytes"])
        _limit(base_bytes + SPARE_BYTES + len(data) + BYTES_PER_PIXEL * asked["pixels"])
        with contextlib.suppress(BrokenPipeError):
            _answer(answers, data, ImageLimits(len(data), asked["pixels"]), asked["reduction"])
        del data
        gc.collect()


def _answer(answers: BinaryIO, data: bytes, limits: ImageLimits, reduction: int) -> None:
    pixels: Image | None = None
    try:
        pixels = np.ascontiguousarray(decode_here(data, limits, reduction))
        head: dict[str, object] = {"shape": pixels.shape}
    except MemoryError:
        head = {"error": "memory"}
    except (ImageTooLarge, UnreadableImage, UnsupportedImageFormat) as error:
        head = {"error": type(error).__name__, "detail": error.detail}
    answers.write(json.dumps(head).encode() + b"\n")
    if pixels is not None:
        answers.write(pixels.data)
    answers.flush()


def _limit(memory_bytes: int) -> None:
    """Limit the memory and the processor time of the next image, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on every system

        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime) + 1 + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, resource.RLIM_INFINITY))


def _address_bytes() -> int:
    """The size of this process before the first image, in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 1024**3


if __name__ == "__main__":
    main()
