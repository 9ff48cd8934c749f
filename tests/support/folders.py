"""Temporary folders for embedded databases. As root, PostgreSQL runs as a system user, who must be able to enter them.

Python and pytest make temporary folders that only their owner may enter. The service opens no folder that it finds.
"""

import os
import stat
import tempfile
from pathlib import Path

RUN = "face-identity-tests-"
"""Beginning of the name of the folder that holds pytest's folders of one run."""


class OpenFolder(tempfile.TemporaryDirectory[str]):
    """A temporary folder that every user may enter, and that only its owner may list."""

    def __init__(self) -> None:
        super().__init__(prefix="face-identity-test-", ignore_cleanup_errors=True)
        _open(Path(self.name))


def opened(folder: Path) -> Path:
    """The folder of a test, after it and its parents up to the folder of the run were opened in the same way."""
    run = next((place for place in folder.parents if place.name.startswith(RUN)), folder)
    for place in (folder, *folder.parents):
        if place.is_relative_to(run):
            _open(place)
    return folder


def _open(folder: Path) -> None:
    if os.geteuid() == 0:
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)
