"""`face-identity legacy capture`: take images of people with a camera, one folder per person.

s saves an image, g brightens, n continues with the next person, q quits. These are keys in the window or, without a
window, lines on standard input.
"""

import queue
import sys
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli.legacy.arguments import capture_arguments
from service.cli.output import remark, write_line
from service.errors import InvalidRequest

if TYPE_CHECKING:
    from service.cli.legacy.camera import Camera, Window
    from service.encoder.contract import Image

GAMMA = 1.5
QUIT, SAVE, BRIGHTEN, NEXT = "q", "s", "g", "n"
_FRAME_SECONDS = 1 / 30


def main(arguments: Sequence[str]) -> None:
    """Run the program with its command line arguments."""
    options = capture_arguments(arguments)
    from service.cli.legacy.camera import Camera

    folder = Path(options.path)
    folder.mkdir(parents=True, exist_ok=True)
    name: str | None = options.name
    with Camera(options.camera) as camera:
        keys = _Keys()
        while True:
            person = name or keys.ask("Name of the person: ")
            if not person or not _capture(camera, keys, _folder_of(folder, person)):
                return
            name = None


def _folder_of(folder: Path, person: str) -> Path:
    """Create the folder of a person. Raises InvalidRequest for a name that would lead elsewhere."""
    if Path(person).name != person or person in {".", ".."}:
        raise InvalidRequest(f"{person!r} cannot be the name of a folder")
    made = folder / person
    made.mkdir(exist_ok=True)
    return made


def _capture(camera: "Camera", keys: "_Keys", folder: Path) -> bool:
    """Take images of one person. Returns True if the user continues with another person."""
    from service.cli.legacy.camera import brighten

    brightens = False
    while (image := camera.read()) is not None:
        if brightens:
            image = brighten(image, GAMMA)
        key = keys.after(image)
        if key == SAVE:
            _save(image, folder)
        elif key == BRIGHTEN:
            brightens = not brightens
            write_line(f"brightened: {'yes' if brightens else 'no'}")
        elif key == NEXT:
            write_line(f"finished with {folder.name}")
            return True
        elif key == QUIT:
            return False
    remark("the camera returned no more images")
    return False


def _save(image: "Image", folder: Path) -> None:
    from service.encoder.images.annotate import annotate

    path = folder / f"{folder.name}{uuid.uuid4()}.jpg"
    path.write_bytes(annotate(image, []))
    write_line(f"saved {path}")


class _Keys:
    """Keys that the user presses in the window or, without a window, types on standard input."""

    def __init__(self) -> None:
        from service.cli.legacy.camera import open_window
        from service.cli.legacy.showing import NO_SCREEN

        self._window: Window | None = open_window("face-identity capture")
        self._typed: queue.SimpleQueue[str] = queue.SimpleQueue()
        if self._window is None:
            remark(f"{NO_SCREEN}: type s, g, n or q and Enter")
            threading.Thread(target=self._listen, daemon=True).start()

    def after(self, image: "Image") -> str:
        """Show an image and return the key pressed since the last one; empty if there was none."""
        from service.encoder.images.annotate import annotate

        if self._window is not None:
            return self._window.show(annotate(image, []))
        try:
            return self._typed.get(timeout=_FRAME_SECONDS)
        except queue.Empty:
            return ""

    def ask(self, question: str) -> str:
        """Ask on standard error and return the typed answer; empty if there is none."""
        remark(question)
        if self._window is None:
            typed = self._typed.get()
            return "" if typed == QUIT else typed
        return sys.stdin.readline().strip()

    def _listen(self) -> None:
        for line in sys.stdin:
            self._typed.put(line.strip())
        self._typed.put(QUIT)
