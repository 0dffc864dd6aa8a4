"""Text to typed values: money to the last digit, and nothing rounded, cut or guessed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ingest.from_text import from_text
from lakehouse.lake.types import parse_type

D = Decimal


def read(kind: str, *texts: str | None) -> list[Any]:
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String})
    found = frame.select(from_text(parse_type(kind), pl.col("text")))["text"]
    assert found.dtype == parse_type(kind).polars
    return found.to_list()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("decimal(18,4)", "0.1", D("0.1")),
        ("decimal(18,4)", "99999999999999.9999", D("99999999999999.9999")),
        ("decimal(18,4)", "100000000000000", None),
        ("decimal(18,4)", "1.23456", None),
        ("decimal(18,4)", "1.23450000", D("1.2345")),
        ("decimal(18,4)", "2.55e0", D("2.55")),
        ("decimal(18,4)", "1E-4", D("0.0001")),
        ("decimal(18,4)", "1E-5", None),
        ("decimal(18,4)", "1e13", D("1e13")),
        ("decimal(18,4)", "1e999999999999", None),
        ("decimal(18,4)", "-1e-999999999999", None),
        ("decimal(18,4)", "0e999999999999", D(0)),
        ("decimal(18,4)", "+.5", D("0.5")),
        ("decimal(18,4)", "5.", D(5)),
        ("decimal(18,4)", "-0", D(0)),
        *(("decimal(18,4)", text, None) for text in ("", " 1", "1 ", ".", "1,5", "1_000", "٣", "NaN", "inf", "1e")),
        ("decimal(38,0)", "9" * 38, D("9" * 38)),
        ("decimal(38,38)", "-0." + "9" * 38, D("-0." + "9" * 38)),
        ("json", "{nonsense", "{nonsense"),
        ("string", "", ""),
        ("boolean", "true", True),
        ("boolean", "True", None),
        ("bigint", "12", 12),
        ("bigint", "1.5", None),
        ("double", "1e-5", 1e-5),
        ("date", "2020-02-29", date(2020, 2, 29)),
        ("date", "2019-02-29", None),
        ("date", "02/03/2020", None),
        ("date", "9999-12-31", None),
        ("timestamp", "2020-01-02T03:04:05.123456+02:00", datetime(2020, 1, 2, 1, 4, 5, 123456, tzinfo=UTC)),
        ("timestamp", "2020-01-02T03:04:05Z", datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("timestamp", "2020-01-02T03:04:05", None),
        ("timestamp", "12020-01-02T03:04:05Z", None),
    ],
)  # fmt: skip
def test_from_text__says_the_value_or_nothing(kind: str, text: str, value: Any) -> None:
    assert read(kind, text, None) == [value, None]


@pytest.mark.parametrize("kind", ["binary", "list<string>", "struct<a string>"])
def test_from_text__refuses_types_that_have_no_text(kind: str) -> None:
    with pytest.raises(ValueError, match="can't be read from text"):
        read(kind, "x")


NUMBERS = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.from_regex(r"\A[+-]?[0-9]{0,20}\.?[0-9]{0,6}([eE][+-]?[0-9]{1,2})?\Z"),
)


@given(texts=st.lists(NUMBERS, min_size=1), precision=st.integers(1, 38), data=st.data())
def test_from_text__decimals_are_exact(texts: list[str], precision: int, data: st.DataObject) -> None:
    scale = data.draw(st.integers(0, precision))
    assert read(f"decimal({precision},{scale})", *texts) == [held(text, precision, scale) for text in texts]


def held(text: str, precision: int, scale: int) -> Decimal | None:
    """The number, where a decimal holds it exactly."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    _sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    if not number:
        return Decimal(0)
    unscaled = int("".join(map(str, digits)))
    shift = exponent + scale
    if shift > precision or (shift < 0 and unscaled % 10 ** min(-shift, len(digits))):
        return None
    if shift < 0 and -shift >= len(digits):
        return None
    unscaled = unscaled * 10**shift if shift >= 0 else unscaled // 10**-shift
    return number if unscaled < 10**precision else None
