"""Camera and window of this machine, for the legacy programs. The headless OpenCV has no windows."""

import os
import subprocess
import sys
from types import TracebackType

import cv2
import numpy as np

from service.encoder.contract import Image
from service.errors import NotFound

FRAME_MILLISECONDS = 1
_PROBE_SECONDS = 20.0
_PROBE = "import cv2; cv2.namedWindow('face-identity'); cv2.destroyAllWindows()"
_CLOSED = "q"


class Camera:
    """A camera by its number, or a video by its file or address. Raises NotFound if it cannot be opened."""

    def __init__(self, source: str = "0") -> None:
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(0)  # OpenCV reports every attempt on standard error
        try:
            self._capture = cv2.VideoCapture(int(source) if source.isdecimal() else source)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not self._capture.isOpened():
            self._capture.release()
            what = f"camera {source}" if source.isdecimal() else source
            raise NotFound(f"{what} cannot be opened: it does not exist, is in use, or may not be read")

    def read(self) -> Image | None:
        """The next image, RGB, or None at the end."""
        taken, frame = self._capture.read()
        return np.ascontiguousarray(frame[..., ::-1]) if taken else None

    def __enter__(self) -> "Camera":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.release()


class Window:
    """A window that shows one image at a time."""

    def __init__(self, title: str) -> None:
        self._title = title
        cv2.namedWindow(title)

    def show(self, jpeg: bytes, milliseconds: int = FRAME_MILLISECONDS) -> str:
        """Show an image and wait for a key (0 milliseconds: without end). Returns the key, or `q` if the window was
        closed.
        """
        cv2.imshow(self._title, cv2.imdecode(np.frombuffer(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR))
        key = cv2.waitKey(milliseconds)
        if key < 0 and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
            return _CLOSED
        return chr(key & 0xFF) if key >= 0 else ""

    def close(self) -> None:
        """Close the window."""
        cv2.destroyWindow(self._title)


def open_window(title: str) -> Window | None:
    """A window, or None without a screen or if the installed OpenCV has no windows."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    # OpenCV ends the whole process if the screen cannot be reached, so another process tries it first.
    tried = subprocess.run([sys.executable, "-c", _PROBE], check=False, capture_output=True, timeout=_PROBE_SECONDS)  # noqa: S603 - a constant
    return Window(title) if tried.returncode == 0 else None


def brighten(image: Image, gamma: float) -> Image:
    """The image with every value v of 0..1 replaced by v ** (1 / gamma)."""
    table = ((np.arange(256) / 255.0) ** (1.0 / gamma) * 255).astype(np.uint8)
    return table[image]
