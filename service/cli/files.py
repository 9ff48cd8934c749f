"""Files that a command reads: images, and embeddings as JSON."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli.output import remark
from service.errors import InvalidRequest, NotFound, ServiceError

if TYPE_CHECKING:
    from service.encoder.encoders import Encoders
    from service.encoder.images.annotate import Format

STANDARD_INPUT = "-"


def read_file(path: str | Path) -> bytes:
    """Read a file, or standard input for `-`. Raises NotFound if the file does not exist."""
    if path == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise NotFound(f"the file {path} does not exist") from None
    except IsADirectoryError:
        raise InvalidRequest(f"{path} is a folder, not a file") from None


def check_drawing(path: Path) -> "Format":
    """Return the format of a picture that a command will write, from its ending.

    Raises InvalidRequest for another ending, and NotFound if the folder is missing: before the work, not after it.
    """
    from service.encoder.images.annotate import FORMATS, format_of

    wanted = format_of(path)
    if wanted is None:
        raise InvalidRequest(f"--annotate {path}: the name must end in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise NotFound(f"--annotate {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise InvalidRequest(f"--annotate {path} is a folder, not a file")
    return wanted


def tell_missing_characters(labels: Sequence[str]) -> None:
    """Say it if names of an annotated picture cannot be drawn, and how to mend it."""
    from service.encoder.images.annotate import has_missing_characters

    if has_missing_characters(labels):
        remark(
            "The fonts of this machine lack characters of some names: the image shows the number of the face and "
            "question marks. A font such as Noto Sans CJK (Debian: fonts-noto-cjk) has them."
        )


async def check_picture(encoders: "Encoders", path: str, data: bytes) -> None:
    """Decode an image, so that the error of a command with several images names the path."""
    try:
        await encoders.decode(data)
    except ServiceError as error:
        raise type(error)(f"{path}: {error.detail}") from None


def read_embeddings(data: bytes, path: str) -> list[list[float]]:
    """Parse embeddings from JSON: a list of numbers, or a list of such lists."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise InvalidRequest(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"{path}: an embedding must be a list of numbers")
    return value if isinstance(value[0], list) else [value]
