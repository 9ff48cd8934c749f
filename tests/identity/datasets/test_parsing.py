"""Dataset files: the shape, the rows, and the errors for wrong rows."""

import io
import re
import tracemalloc
from collections.abc import Iterator
from typing import BinaryIO, cast

import pytest

from service.embedding import EmbeddingSpace, external_space
from service.errors import InvalidDataset
from service.gallery.bulk_writing import ReferenceRow
from service.identity.datasets.formats import DatasetFormat, detect_format
from service.identity.datasets.json_values import MAXIMUM_PIECE_BYTES
from service.identity.datasets.parsing import read_rows

SPACE = cast(EmbeddingSpace, external_space("external:test:2"))


def read(content: bytes) -> tuple[DatasetFormat, list[ReferenceRow]]:
    """The shape and all rows of a file."""
    file = io.BytesIO(content)
    shape = detect_format(file)
    return shape, list(read_rows(file, shape, SPACE))


def in_short(rows: list[ReferenceRow]) -> list[tuple[object, ...]]:
    return [(row.name, row.external_id, list(row.values), row.source, row.metadata) for row in rows]


def test_a_file_of_the_format_dataset_is_read() -> None:
    shape, rows = read(b'[["Ada", "0.1,0.2"],\n ["Bob/\xc3\xa9", " 1, 2"], ["Ada","3,4"]]\n')
    assert shape == "dataset"
    assert in_short(rows) == [
        ("Ada", None, [0.1, 0.2], None, None),
        ("Bob/é", None, [1.0, 2.0], None, None),
        ("Ada", None, [3.0, 4.0], None, None),
    ]


def test_a_file_of_the_format_encoder_is_read_with_both_names_of_the_image() -> None:
    shape, rows = read(
        b'{"Ada": [{"img": "a.jpg", "embedding": [0.1, 0.2]}, {"image": 0, "embedding": [1, 2]},'
        b'{"img": null, "embedding": [1, 2]}, {"embedding": [1, 2]}], "nobody": [], "Bob": [{"embedding": [3, 4]}]}'
    )
    assert shape == "encoder"
    assert in_short(rows) == [
        ("Ada", None, [0.1, 0.2], "a.jpg", None),
        ("Ada", None, [1.0, 2.0], {"image": 0}, None),
        ("Ada", None, [1.0, 2.0], {"img": None}, None),
        ("Ada", None, [1.0, 2.0], None, None),
        ("Bob", None, [3.0, 4.0], None, None),
    ]


def test_a_label_that_occurs_twice_keeps_both_lists() -> None:
    _, rows = read(b'{"Ada": [{"embedding": [1, 2]}], "Bob": [], "Ada": [{"embedding": [3, 4]}]}')
    assert in_short(rows) == [("Ada", None, [1.0, 2.0], None, None), ("Ada", None, [3.0, 4.0], None, None)]


def test_ndjson_is_read_line_by_line() -> None:
    shape, rows = read(
        b'\n{"person": "Ada", "embedding": [0.1, 0.2]}\n\n'
        b'{"embedding":[1,2],"person":"Bob","external_id":"7","source":{"image":3},"metadata":{"t":[1,"]"]}}\r\n'
        b'{"person": "Ada", "embedding": [3, 4], "external_id": null, "source": null, "metadata": null}'
    )
    assert shape == "ndjson"
    assert in_short(rows) == [
        ("Ada", None, [0.1, 0.2], None, None),
        ("Bob", "7", [1.0, 2.0], {"image": 3}, {"t": [1, "]"]}),
        ("Ada", None, [3.0, 4.0], None, None),
    ]


def test_a_saved_reference_of_another_encoder_of_the_same_dimension_is_refused() -> None:
    mine = EmbeddingSpace("dlib", "1" * 64, 2, "euclidean", 0.45)
    line = b'{"person": "Ada", "embedding": [1, 2], "source": {"embedding_space": {"name": "%s", "digest": "%s"}}}\n'
    own, other = line % (b"dlib", b"1" * 64), line % (b"insightface:small", b"2" * 64)
    assert len(list(read_rows(io.BytesIO(own), "ndjson", mine))) == 1
    with pytest.raises(InvalidDataset, match="line 2: the embedding was made with insightface:small, not with dlib"):
        list(read_rows(io.BytesIO(own + other), "ndjson", mine))
    assert len(list(read_rows(io.BytesIO(own + other), "ndjson", SPACE))) == 2  # an external space takes every encoder


def test_a_label_called_person_is_a_label() -> None:
    assert read(b'{"person": [{"embedding": [1, 2]}]}')[0] == "encoder"
    assert read(b'{"embedding": [1, 2], "person": "Ada"}')[0] == "ndjson"


@pytest.mark.parametrize(("content", "shape"), [(b"[]", "dataset"), (b" { } ", "encoder"), (b'{"a":[]}', "encoder")])
def test_an_empty_dataset_is_accepted(content: bytes, shape: DatasetFormat) -> None:
    assert read(content) == (shape, [])


def test_a_byte_order_mark_is_ignored() -> None:
    assert read(b'\xef\xbb\xbf[["Ada","1,2"]]')[1][0].name == "Ada"
    assert read(b'\xef\xbb\xbf{"person":"Ada","embedding":[1,2]}')[1][0].name == "Ada"


WRONG = [
    (b"", "the file is empty"),
    (b" \n", "the file is empty"),
    (b"null", "the file is null: the encoder found no face in that image"),
    (b"[0.1, 0.2]", "the file is a bare list of numbers, an embedding without a label"),
    (b"hello", "the file is not JSON"),
    (b"\x1f\x8b\x08", "the file is compressed (gzip)"),
    (b"PK\x03\x04", "the file is compressed (zip)"),
    ('[["Ada","1,2"]]'.encode("utf-16"), "the file is UTF-16"),
    (b'[{"person":"Ada","embedding":[1,2]}]', "the file is a list of objects"),
    # the first shape
    (b'[["Ada","1,2"],["1,2"]]', "row 2: a row must be a list of two, label and numbers; this one has length 1"),
    (
        b'[["Ada","1,2"],["Ada","1,2","3"]]',
        "row 2: a row must be a list of two, label and numbers; this one has length 3",
    ),
    (b'[["Ada","1,2"],{"Ada":"1,2"}]', "row 2: a row must be a list of two, label and numbers; this one is not a list"),
    (b'[["Ada","1,2"],[null,"1,2"]]', "row 2: the label is missing"),
    (b'[["","1,2"]]', "row 1: the label is missing"),
    (b'[[7,"1,2"]]', "row 1: the label is not a string"),
    (b'[["Ada",[1,2]]]', "row 1: the numbers are not a string of numbers separated by commas"),
    (b'[["Ada","1,2,3"]]', "row 1: 3 numbers, but external:test:2 has 2"),
    (b'[["Ada",""]]', "row 1: 0 numbers, but external:test:2 has 2"),
    (b'[["Ada","1,2"],["Bob","1,NaN"]]', "row 2: number 1 (counted from 0) is not finite"),
    (b'[["Ada","1,two"]]', "row 1: number 1 (counted from 0) is not a number"),
    (b'[["Ada","0,0.0"]]', "row 1: all numbers are zero"),
    (b'[["Ada","1e999,2"]]', "row 1: number 0 (counted from 0) is not finite"),
    (b'[["A\\u0000","1,2"]]', "row 1: label: control characters"),
    (b'[["A\\ud800","1,2"]]', "row 1: not well-formed JSON"),
    (b'[["A\xff","1,2"]]', "row 1: not well-formed JSON"),
    (b'[["' + b"A" * 501 + b'","1,2"]]', "row 1: label: 501 characters, at most 500 are allowed"),
    (b'[["Ada","1,2"],["Bob","1,', "row 2: the file ends here, in the middle of a value"),
    (b'[["Ada","1,2"]', "row 1: the file ends here, in the middle of a value"),
    (b'[["Ada","1,2"]] []', "row 1: unexpected content after the end of the dataset"),
    (b'[["Ada","1,2"],]', "row 2: a value is missing"),
    (b'[["Ada","1,2"] ["Bob","1,2"]]', "row 1: expected , or ]"),
    # the second shape
    (b'{"Ada":[{"img":0}]}', "label 1, entry 1: `embedding` is missing"),
    (b'{"Ada":[{"embedding":[1,2]},{"embedding":[1,"2"]}]}', "label 1, entry 2: `embedding[1]`: expected float"),
    (b'{"Ada":[{"embedding":[1,NaN]}]}', "label 1, entry 1: a number is not finite"),
    (b'{"Ada":[{"embedding":[1,2],"imgs":0}]}', "label 1, entry 1: a field is unknown, known are"),
    (b'{"Ada":[{"embedding":[1,2],"img":0,"image":0}]}', "label 1, entry 1: `img` and `image` are the same field"),
    (b'{"Ada":[{"embedding":[1,2],"img":[1]}]}', "label 1, entry 1: `img` is neither a string nor an integer"),
    (b'{"Ada":[{"embedding":[1,2],"img":true}]}', "label 1, entry 1: `img` is neither a string nor an integer"),
    (b'{"Ada":[{"embedding":[1,2],"img":"\\u0000"}]}', "label 1, entry 1: img: the character U+0000"),
    (b'{"Ada":[{"embedding":[1,2]}],"Bob":null}', "label 2: expected ["),
    (b'{"Ada":[{"embedding":[1,2]}],"Bo', "label 2: the file ends here, in the middle of a value"),
    (b'{"Ada":[{"embedding":[1,', "label 1, entry 1: the file ends here, in the middle of a value"),
    (b'{"":[{"embedding":[1,2]}]}', "label 1: label: a name has 1 to 500 characters"),
    # NDJSON
    (b'{"person":"Ada","embedding":[1,2]}\n{"embedding":[1,2]}', "line 2: `person` is missing"),
    (b'{"person":"Ada","embedding":[1,2]}\n\n{"person":"Bob"', "line 3: not well-formed JSON"),
    (b'{"person":null,"embedding":[1,2]}', "line 1: `person`: expected str, got null"),
    (b'{"person":"Ada","embedding":[1,2],"externalid":"7"}', "line 1: a field is unknown, known are"),
    (b'{"person":"Ada","embedding":[1,Infinity]}', "line 1: a number is not finite"),
    (b'{"person":"Ada","embedding":"1,2"}', "line 1: `embedding`: expected array, got str"),
    (b'{"person":"Ada","embedding":[1,2],"metadata":[1]}', "line 1: metadata: must be a JSON object"),
    (b'{"person":"Ada","embedding":[1,2],"external_id":""}', "line 1: external_id: a name has 1 to 500 characters"),
    (b'{"person":"Ada","embedding":[1,2]}{"person":"Ada","embedding":[1,2]}', "line 1: not well-formed JSON"),
]


@pytest.mark.parametrize(("content", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_an_error_names_the_row_and_the_fault(content: bytes, reason: str) -> None:
    with pytest.raises(InvalidDataset) as error:
        read(content)
    assert error.value.detail.startswith(reason)
    assert not {"Ada", "Bob", "imgs", "externalid"} & set(re.findall(r"\w+", error.value.detail))


class EndlessLine(io.RawIOBase):
    """A gigabyte in one line, generated while it is read."""

    def __init__(self, start: bytes) -> None:
        self._start = start
        self._left = 1_000_000_000

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = min(len(buffer), self._left)
        buffer[:size] = (self._start + b"1" * size)[:size]
        self._start, self._left = b"", self._left - size
        return size


@pytest.mark.parametrize(
    ("start", "shape"), [(b'[["Ada","', "dataset"), (b'{"person":"', "ndjson"), (b'{"a":[{"', "encoder")]
)
def test_a_line_of_a_gigabyte_is_refused_in_bounded_memory(start: bytes, shape: DatasetFormat) -> None:
    file = cast(BinaryIO, io.BufferedReader(EndlessLine(start)))
    rows: Iterator[ReferenceRow] = read_rows(file, shape, SPACE)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidDataset, match=f"longer than {MAXIMUM_PIECE_BYTES} bytes"):
            next(rows)
        assert tracemalloc.get_traced_memory()[1] < 5 * MAXIMUM_PIECE_BYTES
    finally:
        tracemalloc.stop()


def test_an_error_quotes_nothing_of_an_embedding() -> None:
    for content in (
        b'[["Ada","0.123456,0.987654,x123456"]]',
        b'{"Ada":[{"embedding":[0.123456,"0.123456"]}]}',
        b'{"person":"Ada","embedding":[0.123456,NaN]}',
    ):
        with pytest.raises(InvalidDataset) as error:
            read(content)
        assert "123456" not in error.value.detail


@pytest.mark.parametrize("end", ["", "x", "1e5e"])
def test_rows_of_four_megabytes_of_digits_are_refused_by_their_length(end: str) -> None:
    """A pattern that backtracks would hold the interpreter lock for hours on such a number."""
    digits = "1" * (MAXIMUM_PIECE_BYTES - 100) + end
    with pytest.raises(InvalidDataset) as error:
        read(f'[["Ada","{digits},1"],["Bob","1,{digits}"]]'.encode())
    assert error.value.detail == "row 1: number 0 (counted from 0) is longer than 2000 characters"
    with pytest.raises(InvalidDataset) as error:
        read(f'[["Ada","1,2"],["Bob","1,{digits}"]]'.encode())
    assert error.value.detail == "row 2: number 1 (counted from 0) is longer than 2000 characters"
