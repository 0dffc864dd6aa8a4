"""Parses a text into a typed value, or NULL if it doesn't match the type: nothing is rounded, cut or guessed.

`coerce` decides which columns a source fills and what a NULL means.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from lakehouse.lake.types import MAX_PRECISION, ColumnType

if TYPE_CHECKING:
    import polars as pl

_FIRST_YEAR, _LAST_YEAR = 1800, 2199
YEARS = f"from {_FIRST_YEAR} to {_LAST_YEAR}"
"""Accepted years. Polars parses years far beyond the range of Python's dates."""
_PLAIN = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$"
_WITH_EXPONENT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+$"


def from_text(kind: ColumnType, text: pl.Expr, date_format: str = "%Y-%m-%d") -> pl.Expr:
    """Converts texts to a type; NULL if a text isn't a value of that type.

    A decimal must not have more digits than the type, except trailing zeros. Dates are of `date_format`, timestamps ISO
    8601 with an offset, booleans true or false. JSON is kept as text: a rule of its column validates it.

    Raises:
        ValueError: no text can be read as that type (binary, lists, structs).
    """
    import polars as pl

    if kind.kind in ("string", "json"):
        return text
    if kind.kind == "boolean":
        return text.replace_strict(["true", "false"], [True, False], default=None, return_dtype=pl.Boolean)
    if kind.kind == "decimal":
        return _decimal(kind, text)
    if kind.kind == "double":
        return text.cast(pl.Float64, strict=False)
    if kind.kind == "bigint":
        return text.cast(pl.Int64, strict=False)
    if kind.kind == "date":
        return in_years(text.str.to_date(date_format, strict=False))
    if kind.kind == "timestamp":
        moment = text.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
        return in_years(moment.dt.replace_time_zone(None)).dt.replace_time_zone("UTC")
    raise ValueError(f"a {kind} can't be read from text")


def from_text_in_unit(text: pl.Expr, unit: Fraction) -> pl.Expr:
    """Converts texts that count in a unit to doubles: the text times `unit`, rounded once where that is a power of ten.
    NULL if a text isn't a number.
    """
    import polars as pl

    power = _power_of_ten(unit)
    if power is None:
        return text.cast(pl.Float64, strict=False) * unit.numerator / unit.denominator
    mantissa, written = text.str.extract("^([^eE]*)"), text.str.extract("[eE](.*)$")
    exponent = pl.when(text.str.contains("[eE]")).then(written.cast(pl.Int64, strict=False)).otherwise(0) + power
    return pl.concat_str(mantissa, pl.lit("e"), exponent.cast(pl.String)).cast(pl.Float64, strict=False)


def _power_of_ten(number: Fraction) -> int | None:
    """The power of ten that a number is, if any."""
    power = len(str(number.numerator)) - len(str(number.denominator))
    return power if number == Fraction(10) ** power else None


def in_years(moment: pl.Expr) -> pl.Expr:
    """The date or time without time zone; NULL if its year is outside `YEARS`."""
    import polars as pl

    first, end = datetime(_FIRST_YEAR, 1, 1), datetime(_LAST_YEAR + 1, 1, 1)
    return pl.when((moment >= first) & (moment < end)).then(moment)


def _decimal(kind: ColumnType, text: pl.Expr) -> pl.Expr:
    import polars as pl

    plain = text.map_batches(_without_exponents, pl.String)
    # A cast would round digits beyond the type's precision.
    digits_behind = plain.str.extract(r"\.([0-9]*?)0*$").str.len_chars().fill_null(0)
    exact = plain.str.contains(_PLAIN) & (digits_behind <= kind.scale)
    return pl.when(exact).then(plain).cast(kind.polars, strict=False)


def _without_exponents(texts: pl.Series) -> pl.Series:
    """Rewrites numbers like 1.5E-3 as 0.0015."""
    written = texts.filter(texts.str.contains(_WITH_EXPONENT).fill_null(False)).unique()
    if written.is_empty():
        return texts
    return texts.replace(written, [_plainly(number) for number in written])


def _plainly(number: str) -> str:
    # More zeros than any decimal has digits would only waste memory.
    exponent = int(re.split("[eE]", number)[1])
    if abs(exponent) > MAX_PRECISION + len(number):
        return "0" if not Decimal(number.lower().split("e")[0]) else number
    return f"{Decimal(number):f}"
