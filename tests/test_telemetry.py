"""Metrics of several processes of one server, and the log lines of libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path

from service.telemetry import NO_DESCRIPTORS

RECORD = "from service.telemetry import IMAGES_ENCODED, IMAGES_RUNNING; IMAGES_ENCODED.inc(); IMAGES_RUNNING.inc()"
READ = "from service.telemetry import metrics_text; print(metrics_text().decode())"


def run(program: str, folder: Path) -> str:
    """Run a program of one line as another process of the server whose processes meet in `folder`."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_a_process_that_ended_in_the_middle_keeps_its_counts_and_has_no_image_in_progress(tmp_path: Path) -> None:
    run(RECORD + "; import os; os._exit(0)", tmp_path)
    lines = run(READ, tmp_path).splitlines()
    assert "face_identity_images_encoded_total 1.0" in lines
    assert "face_identity_images_running 0.0" in lines


LOG = """
import asyncio, logging, socket
from service.telemetry import configure_logging
configure_logging("INFO")
configure_logging("INFO")

async def fail():
    raise ValueError("canary")

async def main():
    loop = asyncio.get_running_loop()
    forgotten = loop.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del forgotten
    for _ in range(3):
        error = OSError(24, "Too many open files")
        loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": error})
    logging.getLogger("procrastinate").warning("line\\nbreak")

asyncio.run(main())
"""


def test_every_warning_of_a_library_is_one_json_line_without_the_text_of_the_error() -> None:
    ran = subprocess.run([sys.executable, "-c", LOG], check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert "canary" not in ran.stderr
    forgotten, descriptors, other = lines
    assert forgotten["event"] == "Task exception was never retrieved"
    assert (forgotten["library"], forgotten["kind"], forgotten["level"]) == ("asyncio", "ValueError", "error")
    assert forgotten["places"][-1].endswith("fail")
    assert (descriptors["event"], descriptors["kind"]) == (NO_DESCRIPTORS, "OSError")
    assert (other["event"], other["level"]) == ("line\nbreak", "warning")


NATIVE = """
import io, os, sys
import cv2, numpy
from PIL import Image
from service.telemetry import configure_logging, logger, structure_native_lines

configure_logging("INFO")
structure_native_lines()
file = io.BytesIO()
Image.effect_noise((64, 64), 90).convert("RGB").save(file, "JPEG")
data = file.getvalue()
damaged = data[: len(data) // 2] + data[-2:]
cv2.imdecode(numpy.frombuffer(damaged, numpy.uint8), cv2.IMREAD_COLOR)
os.write(2, b"\\xff\\x00 odd " + b"x" * 500 + b"\\n")
logger("test").info("own line")
sys.stdin.readline()
"""


def test_lines_that_libraries_in_c_print_are_lines_of_the_log() -> None:
    """libjpeg prints a bare line for a damaged image."""
    process = subprocess.Popen([sys.executable, "-c", NATIVE], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stderr is not None
    seen: list[dict[str, str]] = []
    while len(seen) < 5 or "own line" not in {line["event"] for line in seen}:
        seen.append(json.loads(process.stderr.readline()))
    process.communicate("end\n")
    assert any("Corrupt JPEG data" in line.get("text", "") for line in seen)
    native = [line for line in seen if line["event"] == "a native library printed a line"]
    assert {(line["room"], line["level"]) for line in native} == {("library", "warning")}
    assert all(len(line["text"]) <= 200 and line["text"].isprintable() for line in native)


def test_libraries_in_c_never_wait_for_the_log() -> None:
    """The thread that reads the pipe cannot run while a library holds the interpreter lock."""
    program = """
import ctypes, os
from service.telemetry import configure_logging, structure_native_lines
configure_logging("CRITICAL")
structure_native_lines()
write = ctypes.PyDLL(None).write  # keeps the interpreter lock
for _ in range(100):
    write(2, b"x" * 65536, 65536)
"""
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stderr == b""
