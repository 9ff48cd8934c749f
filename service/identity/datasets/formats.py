"""Which of the shapes a dataset file has, told by its beginning.

- dataset: `[["label", "0.1,0.2,..."], ...]`, one row an image
- encoder: `{"label": [{"img": ..., "embedding": [0.1, ...]}, ...], ...}`, the key `image` in place of `img` too
- ndjson: `{"person": "label", "embedding": [0.1, ...]}`, one a line; `external_id`, `source`, `metadata` may be added
"""

import codecs
from typing import BinaryIO, Literal

from service.errors import InvalidDataset
from service.identity.datasets.json_values import JsonValueError, JsonValues

DatasetFormat = Literal["dataset", "encoder", "ndjson"]

_NO_JSON = {b"\x1f\x8b": "gzip", b"PK": "zip", b"\x28\xb5\x2f\xfd": "zstd"}
_OTHER_TEXT = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def detect_format(file: BinaryIO) -> DatasetFormat:
    """The shape of the file, which is then at its first significant byte's line; InvalidDataset says what it is not."""
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
    """Goes past a byte order mark, and refuses what is no UTF-8 text."""
    head = file.read(4)
    for magic, name in _NO_JSON.items():
        if head.startswith(magic):
            raise InvalidDataset(f"the file is compressed ({name}): send what is in it")
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
        raise InvalidDataset("the file holds null: the encoder found no face in that image")
    raise InvalidDataset("the file is not JSON: a dataset begins with [ or {")


def _shape_of_list(pieces: JsonValues) -> DatasetFormat:
    pieces.take("[")
    first = pieces.peek()
    if first in ("[", "]", ""):
        return "dataset"
    if first == "{":
        raise InvalidDataset("a list of objects is no dataset: write one object a line (NDJSON), without [ and ]")
    if first == '"':
        raise InvalidDataset("row 1: a row is a list of label and numbers, so a dataset begins with [[")
    raise InvalidDataset(
        "the file is one bare list of numbers, an embedding without a label: "
        'wrap it as {"label": [{"img": 0, "embedding": [...]}]}'
    )


def _shape_of_object(pieces: JsonValues) -> DatasetFormat:
    """Told apart by the first value: a list of objects after a label, anything else in a row of NDJSON."""
    pieces.take("{")
    if pieces.peek() == "}":
        return "encoder"
    pieces.value()
    pieces.take(":")
    if pieces.peek() != "[":
        return "ndjson"
    pieces.take("[")
    return "encoder" if pieces.peek() in ("{", "]", "") else "ndjson"
