"""Decimal numbers as embeddings."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.embedding import MAXIMUM_DIMENSION
from service.errors import InvalidEmbedding
from service.identity.datasets.decimals import parse_decimals

finite = st.floats(allow_nan=False, allow_infinity=False)
decimals = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@settings(deadline=None)
@given(st.lists(finite, min_size=1))
@example([5e-324, -0.0, 1.7976931348623157e308, 2.2250738585072014e-308, 0.1, 1 / 3])
def test_every_float_is_read_exactly(values: list[float]) -> None:
    assert parse_decimals(",".join(map(repr, values))).tobytes() == np.array(values).tobytes()


@settings(deadline=None)
@given(decimals)
@example("0.1000000000000000055511151231257827021181583404541015625")
@example("9007199254740993")
@example("2.2250738585072011e-308")
@example("1e23")
def test_every_spelling_is_read_as_python_reads_it(text: str) -> None:
    expected = float(text)
    parsed = parse_decimals(text)
    assert parsed.tolist() == [expected]
    assert np.isfinite(parsed).all() == np.isfinite(expected)


@pytest.mark.parametrize(
    ("text", "values"), [("1.,.5", [1.0, 0.5]), (" 1 ,\t2 ", [1.0, 2.0]), ("+1,-2E+2", [1.0, -200.0]), ("1", [1.0])]
)
def test_spellings_that_json_does_not_allow_are_read(text: str, values: list[float]) -> None:
    assert parse_decimals(text).tolist() == values


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1,x,3", "number 1 (counted from 0) is not a number"),
        ("1,,3", "number 1 (counted from 0) is missing"),
        ("1,2,", "number 2 (counted from 0) is missing"),
        ("nan,1", "number 0 (counted from 0) is not finite"),
        ("1,-Infinity", "number 1 (counted from 0) is not finite"),
        ("1_0,2", "number 0 (counted from 0) is not a number"),
        ("0x10", "number 0 (counted from 0) is not a number"),
        ("1;2", "number 0 (counted from 0) is not a number"),
        ("\u0661", "number 0 (counted from 0) is not a number"),
        ("[1]", "number 0 (counted from 0) is not a number"),
        ("1]", "number 0 (counted from 0) is not a number"),
        ("\ud800", "number 0 (counted from 0) is not a number"),
    ],
)
def test_the_error_about_a_wrong_number_names_its_index(text: str, reason: str) -> None:
    with pytest.raises(InvalidEmbedding) as error:
        parse_decimals(text)
    assert error.value.detail == reason


def test_too_many_numbers_are_refused_before_they_are_parsed() -> None:
    with pytest.raises(InvalidEmbedding) as error:
        parse_decimals("x," * MAXIMUM_DIMENSION)
    assert error.value.detail == "4001 numbers, at most 4000 are allowed"


@pytest.mark.parametrize("digits", ["1" * 20_000 + "x", "1" * 2_000_000, "0." + "3" * 20_000])
def test_a_number_of_too_many_characters_is_refused(digits: str) -> None:
    with pytest.raises(InvalidEmbedding) as error:
        parse_decimals(f"1,{digits}")
    assert error.value.detail == "number 1 (counted from 0) is longer than 2000 characters"


def test_the_longest_exact_decimal_of_a_float_is_read() -> None:
    text = f"{5e-324:.1074f}"
    assert parse_decimals(f"-{text},+{text}").tolist() == [-5e-324, 5e-324]
