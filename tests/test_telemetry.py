"""Metrics of several processes of one server."""

import os
import subprocess
import sys
from pathlib import Path

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
