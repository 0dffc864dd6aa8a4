"""Tasks that load rows of the lake, and make series of them: frames with the columns `date` and `value`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from lakehouse.analyses.functions import checks
from lakehouse.analyses.registry import Tasks

if TYPE_CHECKING:
    from lakehouse.analyses.tables import Tables

TASKS = Tasks()


@TASKS.task(
    "series.load",
    checks={"table": checks.table_name, "columns": checks.column_names, "key": checks.column_name},
)
def load(ticker: str, date_column: str, *, table: str, columns: Sequence[str], key: str, tables: Tables) -> Any:
    """The rows of a table of the lake whose `key` is the ticker, by date."""
    found = tables.read(table, list(dict.fromkeys([date_column, *columns])), {key: [ticker]}, order_by=date_column)
    if found.is_empty():
        raise ValueError(f"{table} has no rows with {key} {ticker!r}: load them, or give another ticker")
    return found


@TASKS.task("series.to_datetime")
def to_datetime(data: pl.DataFrame, column: str) -> pl.Series:
    """A column as dates; texts are read as ISO 8601."""
    values = _column(data, column)
    dates = values.str.to_date("%Y-%m-%d") if values.dtype == pl.String else values.cast(pl.Date)
    if dates.null_count():
        raise ValueError(f"column {column} has {dates.null_count():,} rows without a date")
    return dates.alias("date")


@TASKS.task("series.get_column")
def get_column(data: pl.DataFrame, dates: pl.Series, column: str) -> pl.DataFrame:
    """A column as a series over dates."""
    return pl.DataFrame({"date": dates, "value": _column(data, column)})


@TASKS.task("series.date_mask")
def date_mask(dates: pl.Series, start: str | date, end: str | date) -> pl.Series:
    """Which dates are from start to end, both included."""
    first, last = _day(start), _day(end)
    if first > last:
        raise ValueError(f"start {first} is after end {last}; exchange them")
    return dates.is_between(first, last).alias("mask")


@TASKS.task("series.apply_mask")
def apply_mask(values: Any, mask: pl.Series) -> Any:
    """The rows of a series, of dates or of a frame where the mask is true."""
    return values.filter(mask)


@TASKS.task("series.between")
def between(
    dates: pl.Series, series: pl.DataFrame, start: str | date, end: str | date
) -> tuple[pl.Series, pl.DataFrame]:
    """The dates from start to end, both included, and the rows of the series on them."""
    mask = date_mask(dates, start, end)
    if not mask.any():
        raise ValueError(f"no date is from {start} to {end}; they are from {dates.min()!s} to {dates.max()!s}")
    return apply_mask(dates, mask), apply_mask(series, mask)


def _column(data: pl.DataFrame, name: str) -> pl.Series:
    if name not in data.columns:
        raise ValueError(f"the data have no column {name!r}; they have {', '.join(data.columns)}")
    return data[name]


def _day(value: str | date) -> date:
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is no date; write it as 2007-01-01") from None
