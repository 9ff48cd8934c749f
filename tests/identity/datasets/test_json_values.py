"""Cutting a JSON file into values: the same values as a parser finds, for every chunk boundary."""

import io
import json
import sys
import tracemalloc
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.identity.datasets import json_values as module
from service.identity.datasets.json_values import MAXIMUM_PIECE_BYTES, JsonValueError, JsonValues

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
spacing = st.sampled_from([None, (" , ", " : "), ("\n,\t", "\r\n:\n ")])


def all_values(content: bytes) -> list[object]:
    """The values of a list, each cut out and parsed alone."""
    pieces = JsonValues(io.BytesIO(content))
    parsed = [json.loads(pieces.value()) for _ in pieces.entries()]
    pieces.end()
    return parsed


@pytest.fixture(params=[1, 3, 7, 256 * 1024])
def small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read in chunks of this size, so that they end everywhere."""
    monkeypatch.setattr(module, "READ_BYTES", request.param)


TRICKY = [
    [],
    [[]],
    [{}, [], "", 0],
    ["\\", '\\"', '"]', "[{", "\\\\\\", "\u2028é😀"],
    [{"a]": ["}", [1, 2, ["]"]], [[1], [2, [3]]]], "b": {"[": 1}}],
    [1.5e-300, -0.0, True, None, 12345678901234567890],
]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("content", TRICKY)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_values_are_found_wherever_chunks_end(content: list[object], ascii_only: bool) -> None:
    for indent in (None, 2):
        written = json.dumps(content, ensure_ascii=ascii_only, indent=indent).encode()
        assert all_values(written) == content


@settings(max_examples=100, deadline=None)
@given(content=st.lists(values), separators=spacing, ascii_only=st.booleans())
def test_any_list_is_cut_into_its_values(
    content: list[object], separators: tuple[str, str] | None, ascii_only: bool
) -> None:
    written = json.dumps(content, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert all_values(written) == content


@settings(max_examples=100, deadline=None)
@given(content=st.lists(values, min_size=1), data=st.data())
def test_a_file_cut_anywhere_is_refused(content: list[object], data: st.DataObject) -> None:
    written = json.dumps(content).encode("utf-8", "surrogatepass")
    cut = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises((JsonValueError, ValueError)):
        all_values(written[:cut])


@settings(max_examples=100, deadline=None)
@given(content=st.lists(st.sampled_from(list(b'[]{}",:\\1a ')), max_size=30))
def test_a_text_that_is_not_json_is_refused(content: list[int]) -> None:
    written = bytes([ord("["), *content])
    try:
        expected = json.loads(written)
    except ValueError:
        with pytest.raises((JsonValueError, ValueError)):
            all_values(written)
    else:
        assert all_values(written) == expected


@pytest.mark.parametrize(
    "content",
    [b'["' + b"x" * 50_000_000, b"[" + b"[" * 5_000_000, b"[{" + b"[}" * 5_000_000, b'["' + b"\\" * 20_000_000],
    ids=["endless text", "endless lists", "crossed brackets", "endless backslashes"],
)
def test_an_endless_value_is_refused_with_little_memory(content: bytes) -> None:
    pieces = JsonValues(io.BytesIO(content))
    pieces.take("[")
    tracemalloc.start()
    try:
        with pytest.raises(JsonValueError):
            pieces.value()
        assert tracemalloc.get_traced_memory()[1] < 4 * MAXIMUM_PIECE_BYTES
    finally:
        tracemalloc.stop()


def steps(content: bytes) -> int:
    """Lines of the module that run until the values of a list are cut out."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename == module.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        pieces = JsonValues(io.BytesIO(content))
        for _ in pieces.entries():
            pieces.value()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("part", [b"[],", b"[[]],", b"{},", b'"",', b'"\\\\",', b'{"a":[1]},', b"[1,2],"])
def test_twice_as_long_a_row_takes_twice_as_many_steps(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is searched from its beginning after each read takes four times as many."""
    monkeypatch.setattr(module, "READ_BYTES", 1024)
    short, long = (steps(b"[[" + part * times + b"0]]") for times in (4000, 8000))
    assert long < 2.2 * short


def test_a_text_of_backslashes_takes_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_BYTES", 1024)
    short, long = (steps(b'["' + b"\\\\" * times + b'"]') for times in (4000, 8000))
    assert long < 2.2 * short
