"""Nothing is written outside DATA_DIR: the home folder of every entry point stays empty."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.encoder.fake_pictures import draw_people

COMMAND = "import sys; from service.cli import main; sys.argv[0] = 'face-identity'; main()"
USE_DLIB = "from pathlib import Path; from service import Recognizer; Recognizer('dlib').encode(Path('image.jpg'))"
COMMANDS = {
    "detect": ["-c", COMMAND, "detect", "image.jpg"],
    "encode": ["-c", COMMAND, "encode", "image.jpg"],
    "enroll": ["-c", COMMAND, "enroll", "image.jpg"],
    "recognize": ["-c", COMMAND, "recognize", "image.jpg"],
    "module": ["-c", USE_DLIB],
    "models": ["-c", COMMAND, "models", "list"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_fresh_home_stays_empty(name: str, tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (work / "image.jpg").write_bytes(draw_people(["Ada"]))
    # Some libraries are quiet if they believe that they run in CI, and a user's machine does not.
    kept = {key: value for key, value in os.environ.items() if key not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    variables = {
        "ENCODER": "dlib",
        "HOME": str(home),
        "DATA_DIR": str(tmp_path / "data"),
        "XDG_CACHE_HOME": "",
        "XDG_DATA_HOME": "",
    }
    command = [sys.executable, *COMMANDS[name]]
    done = subprocess.run(command, cwd=work, env=kept | variables, check=False, capture_output=True, text=True)
    assert done.returncode in {0, 3, 4, 5}, done.stderr  # there is no face and no gallery
    assert list(home.rglob("*")) == []
