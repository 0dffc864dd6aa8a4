"""Rows for a page: queries over the lake and the published marts, whose values are passed as literals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from typing import Any

import duckdb

from lakehouse.api import Lake
from lakehouse.errors import MartsUnavailable
from lakehouse.lake.engine import connect
from lakehouse.lake.lake import MARTS_SCHEMA
from lakehouse.lake.published import attach_published

Row = dict[str, Any]


def rows(lake: Lake, query: str) -> list[Row]:
    """The rows of a query."""
    relation = lake.sql(query)
    if relation is None:
        return []
    names = relation.columns
    return [dict(zip(names, values, strict=True)) for values in relation.fetchall()]


def mart_rows(lake: Lake, query: str) -> list[Row]:
    """The rows of a query over published marts (`marts.<model>`) alone, which need no table of the lake.

    Raises:
        MartsUnavailable: the published file is damaged, or it isn't there any more.
    """
    if lake.warehouse is None or not lake.warehouse.exists():
        raise MartsUnavailable("no marts are published")
    with connect(lake.uri) as connection:
        attach_published(connection, lake.warehouse, "warehouse")
        connection.execute("SET search_path = 'memory.main,warehouse.marts'")
        found = connection.execute(query)
        names = [each[0] for each in found.description or ()]
        return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


def mart_row(lake: Lake, query: str) -> Row:
    """The only row of a query over published marts."""
    (found,) = mart_rows(lake, query)
    return found


def marts(lake: Lake) -> set[str]:
    """The published marts that can be read; none before the first publication."""
    if lake.warehouse is None or not lake.warehouse.exists():
        return set()
    with duckdb.connect() as connection:
        try:
            attach_published(connection, lake.warehouse, "published")
        except MartsUnavailable:
            return set()
        found = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE (database_name, schema_name) = ('published', ?)",
            [MARTS_SCHEMA],
        ).fetchall()
    return {name for (name,) in found}


def utc(moment: datetime | None) -> datetime | None:
    """A moment in UTC."""
    return None if moment is None else moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def age(since: datetime | None, now: datetime) -> str:
    """How long ago a moment was, in its largest unit."""
    moment = utc(since)
    if moment is None:
        return "never"
    seconds = max((now - moment).total_seconds(), 0)
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def sums(rows: Iterable[Row], value: Callable[[Row], float], most: int) -> dict[str, float]:
    """The sums of a value by the bins of the rows' days (column `day`), in their order; see `bins`."""
    known = list(rows)
    bin_of = bins([row["day"] for row in known], most)
    found: dict[str, float] = {}
    for row in known:
        name = str(bin_of[row["day"]])
        found[name] = found.get(name, 0) + value(row)
    return found


def bins(days: list[date], most: int) -> dict[date, date]:
    """The bin of each day: the day itself, or the first day of its week, month or year, so that there are at most
    `most` bins where that is possible.
    """
    begins = [
        lambda day: day,
        lambda day: date.fromordinal(day.toordinal() - day.weekday()),
        lambda day: day.replace(day=1),
        lambda day: day.replace(month=1, day=1),
    ]
    for begin in begins:
        found = {day: begin(day) for day in days}
        if len(set(found.values())) <= most:
            return found
    return found
