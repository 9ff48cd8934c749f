"""Detects the format of a dataset file from its beginning.

- dataset: `[["label", "0.1,0.2,..."], ...]`, one row per image
- encoder: `{"label": [{"img": ..., "embedding": [0.1, ...]}, ...], ...}`, with the key `image` as an alternative to
`img`
- ndjson: `{"person": "label", "embedding": [0.1, ...]}`, one per line, optionally with `external_id`, `source`,
`metadata`
"""

import codecs
from typing import BinaryIO, Literal

from service.errors import InvalidDataset
from service.identity.datasets.json_values import JsonValueError, JsonValues

DatasetFormat = Literal["dataset", "encoder", "ndjson"]

_NO_JSON = {b"\x1f\x8b": "gzip", b"PK": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
_OTHER_TEXT = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def detect_format(file: BinaryIO) -> DatasetFormat:
    """The format of the file, which is left at the line of its first significant byte. Raises InvalidDataset, which
    says why the file has none of the formats.
    """
    _skip_mark(file)
    start = file.tell()
    pieces = JsonValues(file)
    try:
        shape = _shape(pieces)
    except JsonValueError as error:
        raise InvalidDataset(f"row 1: {error}") from None
    file.seek(start)
    return shape


def _skip_mark(file: BinaryIO) -> None:
    """Skip a byte order mark, and refuse text that is not UTF-8."""
    head = file.read(4)
    for magic, name in _NO_JSON.items():
        if head.startswith(magic):
            raise InvalidDataset(f"the file is compressed ({name}): send its uncompressed content")
    for mark, name in _OTHER_TEXT.items():
        if head.startswith(mark):
            raise InvalidDataset(f"the file is {name}: save it as UTF-8")
    file.seek(len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0)


def _shape(pieces: JsonValues) -> DatasetFormat:
    first = pieces.peek()
    if first == "[":
        return _shape_of_list(pieces)
    if first == "{":
        return _shape_of_object(pieces)
    if not first:
        raise InvalidDataset("the file is empty")
    if first == "n":
        raise InvalidDataset("the file is null: the encoder found no face in that image")
    raise InvalidDataset("the file is not JSON: a dataset begins with [ or {")


def _shape_of_list(pieces: JsonValues) -> DatasetFormat:
    pieces.take("[")
    first = pieces.peek()
    if first in ("[", "]", ""):
        return "dataset"
    if first == "{":
        raise InvalidDataset("the file is a list of objects: write one object per line (NDJSON), without [ and ]")
    if first == '"':
        raise InvalidDataset("row 1: a row must be a list of label and numbers, so a dataset begins with [[")
    raise InvalidDataset(
        "the file is a bare list of numbers, an embedding without a label: "
        'wrap it as {"label": [{"img": 0, "embedding": [...]}]}'
    )


def _shape_of_object(pieces: JsonValues) -> DatasetFormat:
    """The first value tells: a list of objects follows a label of the encoder format, else it is a row of NDJSON."""
    pieces.take("{")
    if pieces.peek() == "}":
        return "encoder"
    pieces.value()
    pieces.take(":")
    if pieces.peek() != "[":
        return "ndjson"
    pieces.take("[")
    return "encoder" if pieces.peek() in ("{", "]", "") else "ndjson"
