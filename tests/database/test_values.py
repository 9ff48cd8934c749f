"""One encoder of values: every type is sent alike inside and outside a transaction."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from service.database.binary import big_integers, bit_string, bit_strings, half_vector, half_vector_type, half_vectors
from service.database.statements import fetch_rows
from service.database.values import TextValue, encode, encode_all

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PLAIN = [
    (None, "integer", None),
    (True, "boolean", True),
    (False, "boolean", False),
    (0, "integer", 0),
    (-(2**63), "bigint", -(2**63)),
    (np.int64(7), "integer", 7),
    (0.1, "float8", 0.1),
    (1e-300, "float8", 1e-300),
    (math.inf, "float8", math.inf),
    (np.float32(0.1), "float8", float(np.float32(0.1))),
    (np.float64(0.1), "float8", 0.1),
    ("", "text", ""),
    ('Ærøskøbing {"a",%s}', "text", 'Ærøskøbing {"a",%s}'),
    (b"", "bytea", b""),
    (b"\x00\xff\\", "bytea", b"\x00\xff\\"),
    (MOMENT, "timestamptz", MOMENT),
    (date(2026, 1, 2), "date", date(2026, 1, 2)),
    ({"a": [1, None, "ü"]}, "jsonb", {"a": [1, None, "ü"]}),
    ({}, "jsonb", {}),
    ([], "text[]", []),
    (["a", None, 'b"\\,{}', "", "NULL"], "text[]", ["a", None, 'b"\\,{}', "", "NULL"]),
    ((1, -2, None), "bigint[]", [1, -2, None]),
    ([0.1, 2.5], "float8[]", [0.1, 2.5]),
    ([True, False, None], "boolean[]", [True, False, None]),
    (TextValue(b"17"), "integer", 17),
    (big_integers([1, 2**62]), "bigint[]", [1, 2**62]),
    (big_integers([]), "bigint[]", []),
    (half_vector(np.array([0.5, -2.0], np.float32)), "halfvec", "[0.5,-2]"),
    (bit_string(np.array([0b10100000], np.uint8)), "varbit", "10100000"),
    (bit_strings(np.array([[0b10100000], [1]], np.uint8)), "varbit[]", ["10100000", "00000001"]),
]


async def both_states(session: AsyncSession, query: str, values: dict[str, Any]) -> list[list[Any]]:
    """The rows of a statement outside a transaction, and inside one."""
    assert not session.in_transaction()
    outside = await fetch_rows(session, query, values)
    await session.connection()
    inside = await fetch_rows(session, query, values)
    await session.rollback()
    return [outside, inside]


@pytest.mark.parametrize(("value", "kind", "expected"), PLAIN, ids=lambda item: str(item)[:40])
async def test_a_value_arrives_unchanged_in_both_states(
    session: AsyncSession, value: object, kind: str, expected: object
) -> None:
    shown = "CAST(CAST(%(value)s AS halfvec) AS text)" if kind == "halfvec" else f"CAST(%(value)s AS {kind})"
    assert await both_states(session, f"SELECT {shown}", {"value": value}) == [[(expected,)]] * 2


async def test_half_vectors_arrive_unchanged_in_both_states(session: AsyncSession) -> None:
    vectors = half_vectors(np.array([[1, 2], [3, 4]], np.float32), await half_vector_type(session))
    query = "SELECT CAST(CAST(%(value)s AS halfvec[]) AS text)"
    assert await both_states(session, query, {"value": vectors}) == [[('{"[1,2]","[3,4]"}',)]] * 2


async def test_nan_arrives_unchanged_in_both_states(session: AsyncSession) -> None:
    rows = await both_states(session, "SELECT CAST(%(value)s AS float8)", {"value": math.nan})
    assert all(math.isnan(row[0][0]) for row in rows)


@pytest.mark.parametrize(
    "value",
    [object(), Decimal(1), {1}, np.zeros(2), [[1]], [b"a"], bytearray(b"a")],
    ids=lambda value: type(value).__name__,
)
async def test_an_unknown_type_is_refused_by_name_in_both_states(session: AsyncSession, value: object) -> None:
    for begins in (False, True):
        if begins:
            await session.connection()
        with pytest.raises(TypeError, match=r"^wrong: .* cannot be sent to the database"):
            await fetch_rows(session, "SELECT %(right)s, %(wrong)s", {"right": 1, "wrong": value})


@pytest.mark.parametrize("value", ["a\0b", ["a", "b\0"]])
async def test_a_text_with_a_nul_character_is_refused_instead_of_cut_off(
    session: AsyncSession, value: str | list[str]
) -> None:
    for begins in (False, True):
        if begins:
            await session.connection()
        with pytest.raises(psycopg.DataError, match="NUL"):
            await fetch_rows(session, "SELECT %(value)s", {"value": value})


async def test_a_percent_sign_outside_a_parameter_is_kept(session: AsyncSession) -> None:
    query = "SELECT CAST(%(number)s AS integer) % 4, 'a%' LIKE 'a%%', '100 %s'"
    assert await both_states(session, query, {"number": 7}) == [[(3, True, "100 %s")]] * 2


async def test_a_parameter_may_occur_twice_and_a_value_may_be_unused(session: AsyncSession) -> None:
    query = "SELECT CAST(%(b)s AS integer), CAST(%(a)s AS integer), CAST(%(b)s AS integer)"
    assert await both_states(session, query, {"a": 1, "b": 2, "c": 3}) == [[(2, 1, 2)]] * 2


async def test_a_missing_value_is_an_error_in_both_states(session: AsyncSession) -> None:
    for begins in (False, True):
        if begins:
            await session.connection()
        with pytest.raises(KeyError, match="missing"):
            await fetch_rows(session, "SELECT %(missing)s", {})


def test_an_encoded_value_is_not_encoded_again() -> None:
    encoded = encode("a")
    assert encode(encoded) is encoded
    assert encode_all({"a": encoded, "b": None}) == {"a": b"a", "b": None}
