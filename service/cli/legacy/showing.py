"""Show images in a window or, without a screen, write them to a file and print its name."""

from pathlib import Path
from typing import TYPE_CHECKING

from service.cli.output import remark

if TYPE_CHECKING:
    from service.cli.legacy.camera import Window

NO_SCREEN = "no window can be opened (there is no screen, or OpenCV was built without windows)"


def show(jpeg: bytes, file_name: str) -> None:
    """Show an image until a key is pressed; without a screen write it to the file."""
    from service.cli.legacy.camera import open_window

    window = open_window(file_name)
    if window is None:
        Path(file_name).write_bytes(jpeg)
        remark(f"{NO_SCREEN}: the image is in {file_name}")
        return
    window.show(jpeg, milliseconds=0)
    window.close()


class Screen:
    """Shows a series of images in a window, or overwrites one file with each of them."""

    def __init__(self, file_name: str) -> None:
        from service.cli.legacy.camera import open_window

        self._path = Path(file_name)
        self._window: Window | None = open_window(file_name)
        if self._window is None:
            remark(f"{NO_SCREEN}: the newest image is in {file_name}; Ctrl-C quits")

    def show(self, jpeg: bytes) -> bool:
        """Show an image. Returns False if the user pressed q."""
        if self._window is None:
            self._path.write_bytes(jpeg)
            return True
        return self._window.show(jpeg) != "q"

    def close(self) -> None:
        """Close the window."""
        if self._window is not None:
            self._window.close()
