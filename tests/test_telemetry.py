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
