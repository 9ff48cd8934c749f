"""Files that a command reads: images, and embeddings as JSON."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import InvalidRequest, NotFound, ServiceError

if TYPE_CHECKING:
    from service.encoder.encoders import Encoders

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
