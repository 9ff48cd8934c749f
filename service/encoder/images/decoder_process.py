"""Decodes one AVIF or HEIC file in a process of its own; `decode_apart` runs it.

Three reasons: the size of the coded pixels is not the size in the header (a file of 2 KB that claims 64 x 64 pixels
took 300 MB), so only a limit of the process bounds the memory; the decoders are large programs in C that read files of
strangers, and a crash must not end the server; and a file that decodes for minutes can be ended.

As a program this file imports nothing of the service, so that it starts quickly. Standard input is the file. Standard
output is one line of JSON, then the pixels.
"""

import contextlib
import importlib
import io
import json
import subprocess
import sys
from typing import Any

BYTES_PER_PIXEL = 16
"""Memory of a decoder for each pixel that is allowed. AVIF needs 9."""
BASE_BYTES = 256 * 1024 * 1024
"""Memory of Python and its libraries, before the first pixel."""
SECONDS = 60
"""Processor seconds of a decoder. An image of 40 megapixels takes about one."""


def decode_apart(data: bytes, kind: str, pixels: int) -> dict[str, Any]:
    """Decode a file of kind `AVIF` or `HEIF`. The answer has `error`, or else `size`, `mode`, `orientation`, `data`.

    `error` is "large" (more than `pixels`; the answer has `size`), "memory", "time" or "damaged". Raises MemoryError if
    no process can be started.
    """
    command = [sys.executable, "-P", __file__, kind, str(pixels)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=10 * SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return {"error": "time"}
    except OSError as error:  # no process, no memory or no file descriptor is free
        raise MemoryError from error
    head, _, content = done.stdout.partition(b"\n")
    if not head.startswith(b"{"):  # it was killed
        return {"error": "time" if done.returncode == -24 else "damaged"}  # 24: SIGXCPU
    return {**json.loads(head), "data": content}


def _main(kind: str, pixels: int) -> None:
    _limit(BASE_BYTES + BYTES_PER_PIXEL * pixels)
    image = None
    try:
        opened = _open(kind, sys.stdin.buffer.read())
        width, height = opened.size
        if width * height > pixels:
            head: dict[str, Any] = {"error": "large", "size": [width, height]}
        else:
            opened.load()
            image = opened
            head = {"size": image.size, "mode": image.mode, "orientation": _orientation(image)}
    except MemoryError:
        head = {"error": "memory"}
    except Exception:
        head = {"error": "damaged"}
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
        if image is not None:
            sys.stdout.buffer.write(image.tobytes())
        sys.stdout.buffer.flush()


def _open(kind: str, data: bytes) -> Any:
    pillow: Any = importlib.import_module("PIL.Image")
    pillow.MAX_IMAGE_PIXELS = None  # the limit is checked above
    if kind == "AVIF":
        plugin: Any = importlib.import_module("PIL.AvifImagePlugin")
        plugin.DEFAULT_MAX_THREADS = 1
    else:
        importlib.import_module("pi_heif").register_heif_opener(decode_threads=1)
    return pillow.open(io.BytesIO(data), formats=[kind])


def _orientation(image: Any) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged EXIF block does not affect the pixels
        return 1


def _limit(memory_bytes: int) -> None:
    """Limit the memory and the processor time of this process, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on every system

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
