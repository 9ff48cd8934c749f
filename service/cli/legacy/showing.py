"""Pictures for people: in a window where there is a screen, else in a file, with a word that it is there."""

from pathlib import Path

from service.cli.legacy.camera import Window, open_window
from service.cli.output import remark

NO_SCREEN = "no window can be opened here (no screen, or OpenCV without windows)"


def show(jpeg: bytes, file_name: str) -> None:
    """Show the picture until a key is pressed; without a screen write it to the file."""
    window = open_window(file_name)
    if window is None:
        Path(file_name).write_bytes(jpeg)
        remark(f"{NO_SCREEN}: the picture is in {file_name}")
        return
    window.show(jpeg, milliseconds=0)
    window.close()


class Screen:
    """Shows one picture after the other, in a window or in a file that is written again and again."""

    def __init__(self, file_name: str) -> None:
        self._path = Path(file_name)
        self._window: Window | None = open_window(file_name)
        if self._window is None:
            remark(f"{NO_SCREEN}: the newest picture is in {file_name}; Ctrl-C quits")

    def show(self, jpeg: bytes) -> bool:
        """False when the user wants no more (q)."""
        if self._window is None:
            self._path.write_bytes(jpeg)
            return True
        return self._window.show(jpeg) != "q"

    def close(self) -> None:
        """Take the window from the screen."""
        if self._window is not None:
            self._window.close()
