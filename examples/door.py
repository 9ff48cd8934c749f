"""Open a door for people of a gallery.

Frames come from a camera, or from a folder that a camera writes images to. Each frame goes to the service over HTTP.
The door opens if the same person matches in several frames in a row, and then stays quiet for a while.

    export FACE_IDENTITY_KEY=fik_...
    python door.py --gallery staff --camera 0
    python door.py --gallery staff --folder frames --command "echo open for"

The key needs the scope `recognize` only. Needs httpx (`pip install httpx`), and OpenCV for a camera.

A photograph held in front of the camera is a face, too. Start the server with LIVENESS=enforce and a camera that people
cannot reach, or let the door ask for a second proof, such as a badge. See docs/encoders.md.
"""

import argparse
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx

FRAMES_IN_A_ROW = 2
"""One frame can show the wrong face for a moment: a reflection, or somebody who walks past."""
PAUSE_SECONDS = 5.0
"""The door does not open again for the same person during this time."""


class Door:
    """Decides from the names in each frame when to open. `open_door` is called with the name of the person."""

    def __init__(self, open_door: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._open_door = open_door
        self._clock = clock
        self._frames: dict[str, int] = {}
        self._opened: dict[str, float] = {}

    def see(self, people: dict[str, str]) -> None:
        """Take the people of the next frame: their names by id. Names are not unique, ids are."""
        self._frames = {person: self._frames.get(person, 0) + 1 for person in people}
        for person, frames in self._frames.items():
            pause_is_over = self._clock() - self._opened.get(person, -PAUSE_SECONDS) >= PAUSE_SECONDS
            if frames >= FRAMES_IN_A_ROW and pause_is_over:
                self._opened[person] = self._clock()
                self._open_door(people[person])


def people_in(client: httpx.Client, gallery: str, image: bytes) -> dict[str, str]:
    """Ask the service who is in an image. Returns the names of the matching people by id.

    Waits and asks again if the server is overloaded (503) or the rate limit is reached (429). Raises
    httpx.HTTPStatusError for any other error, such as a key that was revoked.
    """
    while True:
        answer = client.post(f"/v1/galleries/{gallery}/recognize", files={"image": image})
        if answer.status_code not in {429, 503}:
            break
        time.sleep(float(answer.headers.get("retry-after", 1)))
    if answer.status_code in {415, 422}:  # this frame cannot be read: the camera may have been interrupted
        return {}
    matches = [face["match"] for face in answer.raise_for_status().json()["faces"]]
    return {match["person"]["id"]: match["person"]["name"] for match in matches if match is not None}


def frames_of_folder(folder: Path, *, follow: bool = True) -> Iterator[bytes]:
    """The images of a folder, oldest name first, then the images that are added, until the program is stopped.

    Write a new image under another name and rename it, so that no half-written file is read.
    """
    seen: set[Path] = set()
    while True:
        for path in sorted(path for path in folder.glob("*.jpg") if path not in seen):
            seen.add(path)
            yield path.read_bytes()
        if not follow:
            return
        time.sleep(0.2)


def frames_of_camera(number: int) -> Iterator[bytes]:
    """JPEG frames of a camera of this machine."""
    import cv2

    camera = cv2.VideoCapture(number)
    try:
        while True:
            is_there, pixels = camera.read()
            if not is_there:
                raise SystemExit(f"camera {number} gives no frame")
            yield cv2.imencode(".jpg", pixels)[1].tobytes()
    finally:
        camera.release()


def watch(client: httpx.Client, gallery: str, frames: Iterable[bytes], door: Door) -> None:
    """Show the door the people of every frame."""
    for image in frames:
        door.see(people_in(client, gallery, image))


def command_for(command: str) -> Callable[[str], None]:
    """A callback that runs a command with the name as its last argument."""

    def run(name: str) -> None:
        subprocess.run([*shlex.split(command), name], check=True)  # noqa: S603 - the command is the operator's own

    return run


def main() -> None:
    """Read the arguments and watch until the program is stopped."""
    parser = argparse.ArgumentParser(description="Open a door for people of a gallery.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--gallery", required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--camera", type=int)
    source.add_argument("--folder", type=Path)
    parser.add_argument("--once", action="store_true", help="end after the images that are in the folder now")
    parser.add_argument("--command", default="echo open the door for", help="is run with the name of the person")
    given = parser.parse_args()
    if given.folder is not None:
        frames = frames_of_folder(given.folder, follow=not given.once)
    else:
        frames = frames_of_camera(given.camera)
    headers = {"X-API-Key": os.environ["FACE_IDENTITY_KEY"]}
    with httpx.Client(base_url=given.url, headers=headers, timeout=30) as client:
        watch(client, given.gallery, frames, Door(command_for(given.command)))


if __name__ == "__main__":
    main()
