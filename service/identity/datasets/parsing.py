"""Parses a dataset file of any format into rows, and checks each row against the embedding space.

InvalidDataset names the row, line or entry (counted from 1) and the field. It quotes neither names nor embeddings: the
error of a job is stored, and outlives the erasure of the person.
"""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec
import numpy as np

from service.embedding import EmbeddingSpace, check_embedding
from service.errors import InvalidDataset, ServiceError
from service.gallery.bulk_writing import ReferenceRow
from service.gallery.content import check_metadata, check_name
from service.identity.datasets.decimals import parse_decimals
from service.identity.datasets.formats import DatasetFormat
from service.identity.datasets.json_values import MAXIMUM_PIECE_BYTES, JsonValueError, JsonValues
from service.identity.datasets.rows import EncoderEntry, NdjsonRow, explain, free_value, source_of

_anything = msgspec.json.Decoder()
_label = msgspec.json.Decoder(str)
_encoder_entry = msgspec.json.Decoder(EncoderEntry)
_ndjson_row = msgspec.json.Decoder(NdjsonRow)


def read_rows(file: BinaryIO, shape: DatasetFormat, space: EmbeddingSpace) -> Iterator[ReferenceRow]:
    """Every checked row of the file, in order. The values are float64 of shape (dimension,)."""
    readers: dict[DatasetFormat, Callable[[BinaryIO, EmbeddingSpace], Iterator[ReferenceRow]]] = {
        "dataset": _read_dataset,
        "encoder": _read_encoder,
        "ndjson": _read_ndjson,
    }
    return readers[shape](file, space)


def _read_dataset(file: BinaryIO, space: EmbeddingSpace) -> Iterator[ReferenceRow]:
    values, number = JsonValues(file), 0
    with _At(lambda: f"row {number}"):
        for number in values.entries():  # noqa: B007 - the errors name it
            yield _dataset_row(values.value(), space)
        values.end()


def _dataset_row(piece: bytes, space: EmbeddingSpace) -> ReferenceRow:
    row = _decode(_anything, piece)
    if not isinstance(row, list):
        raise InvalidDataset("a row must be a list of two, label and numbers; this one is not a list")
    if len(row) != 2:
        raise InvalidDataset(f"a row must be a list of two, label and numbers; this one has length {len(row)}")
    label, numbers = row
    if label is None or label == "":
        raise InvalidDataset("the label is missing")
    if not isinstance(label, str):
        raise InvalidDataset("the label is not a string")
    if not isinstance(numbers, str):
        raise InvalidDataset("the numbers are not a string of numbers separated by commas")
    values = parse_decimals(numbers)
    check_embedding(values, space)
    return ReferenceRow(check_name(label, "label"), None, values)


def _read_encoder(file: BinaryIO, space: EmbeddingSpace) -> Iterator[ReferenceRow]:
    """A label that occurs twice is one person, and both lists are read."""
    values, place, labels = JsonValues(file), "label 1", 0
    with _At(lambda: place):
        for _ in values.items():
            labels += 1
            place = f"label {labels}"
            label = check_name(_decode(_label, values.value()), "label")
            values.take(":")
            for number in values.entries():
                place = f"label {labels}, entry {number}"
                yield _encoder_row(label, values.value(), space)
            place = f"after label {labels}"
        values.end()


def _encoder_row(label: str, piece: bytes, space: EmbeddingSpace) -> ReferenceRow:
    entry = _decode(_encoder_entry, piece)
    values = np.array(entry.embedding, dtype=np.float64)
    check_embedding(values, space)
    return ReferenceRow(label, None, values, source_of(entry))


def _read_ndjson(file: BinaryIO, space: EmbeddingSpace) -> Iterator[ReferenceRow]:
    number = 0
    with _At(lambda: f"line {number}"):
        while line := file.readline(MAXIMUM_PIECE_BYTES + 1):
            number += 1
            if len(line) > MAXIMUM_PIECE_BYTES:
                raise JsonValueError(f"longer than {MAXIMUM_PIECE_BYTES} bytes")
            if line.strip():
                yield _ndjson_reference(line, space)


def _ndjson_reference(line: bytes, space: EmbeddingSpace) -> ReferenceRow:
    row = _decode(_ndjson_row, line)
    values = np.array(row.embedding, dtype=np.float64)
    check_embedding(values, space)
    external_id = None if row.external_id is None else check_name(row.external_id, "external_id")
    metadata = free_value("metadata", row.metadata)
    if metadata is not None:
        check_metadata(metadata)
    source = free_value("source", row.source)
    _check_space(source, space)
    return ReferenceRow(check_name(row.person, "person"), external_id, values, source, metadata)


def _check_space(source: Any, space: EmbeddingSpace) -> None:
    """Raises InvalidDataset if the row is of a file of `References.save` whose encoder is another one.

    Embeddings of two encoders may have the same dimension. A gallery of an external space takes what its owner says.
    """
    described = source.get("embedding_space") if isinstance(source, dict) else None
    if not isinstance(described, dict) or space.is_external:
        return
    digest = described.get("digest")
    if isinstance(digest, str) and digest != space.digest:
        raise InvalidDataset(f"the embedding was made with {described.get('name')}, not with {space.name}")


def _decode(decoder: msgspec.json.Decoder[Any], piece: bytes) -> Any:
    try:
        return decoder.decode(piece)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        fields: tuple[str, ...] = getattr(decoder.type, "__struct_fields__", ())
        raise InvalidDataset(explain(error, piece, fields)) from None


class _At:
    """Prefixes errors with the row, line or entry that they came from."""

    def __init__(self, place: Callable[[], str]) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, JsonValueError):
            raise InvalidDataset(f"{self._place()}: {error}") from None
        if isinstance(error, ServiceError):
            raise InvalidDataset(f"{self._place()}: {error.detail}") from None
