"""Partitions: the dates that rows count to, and by which people load, look at and correct a dataset.

A partition is named by a date: a day, or the first day of a month or year. A domain may implement the protocol with
partitions of its own, such as the trading days of an exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import polars as pl

Unit = Literal["day", "month", "year"]


class Partitioning(Protocol):
    """The partitions of a dataset, ascending."""

    @property
    def unit(self) -> Unit:
        """What a partition is named by: a day, or the first day of a month or year."""

    @property
    def last(self) -> date | None:
        """The last day up to which partitions are known; None where they go on for ever."""

    @property
    def first(self) -> date:
        """The day from which on the dataset has partitions."""

    @property
    def zone(self) -> str:
        """The time zone on whose clock a moment falls on a day."""

    @property
    def without(self) -> str:
        """The reason against a row of a day that has no partition."""

    def of(self, day: date) -> date | None:
        """The partition that a day belongs to; None where it has none."""

    def on_or_after(self, day: date) -> date | None:
        """The partition of a day, or else the next one; None before the first and after the last that is known."""

    def between(self, first: date, last: date) -> list[date]:
        """The partitions from that of the day `first` to that of the day `last`."""

    def over_at(self, partition: date) -> datetime:
        """When a partition's own time is over (UTC): from then on it is whole."""

    def day_at(self, moment: datetime) -> date:
        """The day that a moment belongs to."""

    def around(self, day: date, start: datetime, end: datetime) -> list[date]:
        """The partitions that an object may hold rows of which is named after `day` and covers the time from `start` to
        `end`; first the one by which it is loaded, if `day` has one.
        """


def begun(partitioning: Partitioning, first: date, now: datetime | None = None) -> list[date]:
    """The partitions from that of the day `first` to the one under way."""
    return partitioning.between(first, today(partitioning, now))


def today(partitioning: Partitioning, now: datetime | None = None) -> date:
    """The day under way."""
    return partitioning.day_at(now or datetime.now(UTC))


_STARTS: dict[Unit, Callable[[date], date]] = {
    "day": lambda day: day,
    "month": lambda day: day.replace(day=1),
    "year": lambda day: day.replace(month=1, day=1),
}
_LENGTHS: dict[Unit, timedelta] = {"day": timedelta(days=1), "month": timedelta(days=31), "year": timedelta(days=366)}


def start_of(unit: Unit, day: date) -> date:
    """The first day of the day, month or year that a day is in."""
    return _STARTS[unit](day)


@dataclass(frozen=True)
class Periods:
    """All days, months or years of a clock from a day on. A month is named by its first day, and so is a year."""

    unit: Unit
    first: date
    zone: str = "UTC"
    last: date | None = None

    @property
    def without(self) -> str:
        return f"the day is before {self.first}, with which the source begins"

    def of(self, day: date) -> date | None:
        start = start_of(self.unit, day)
        return start if start >= start_of(self.unit, self.first) else None

    def on_or_after(self, day: date) -> date | None:
        return self.of(day)

    def between(self, first: date, last: date) -> list[date]:
        found, start = [], start_of(self.unit, max(first, self.first))
        while start <= last:
            found.append(start)
            start = self._next(start)
        return found

    def over_at(self, partition: date) -> datetime:
        end = self._next(start_of(self.unit, partition))
        return datetime(end.year, end.month, end.day, tzinfo=ZoneInfo(self.zone)).astimezone(UTC)

    def day_at(self, moment: datetime) -> date:
        return moment.astimezone(ZoneInfo(self.zone)).date()

    def around(self, day: date, start: datetime, end: datetime) -> list[date]:
        own, last = self.of(day), end - timedelta(microseconds=1)
        others = self.between(self.day_at(start), self.day_at(last))
        return [*([own] if own else []), *(each for each in others if each != own)]

    def _next(self, start: date) -> date:
        return start_of(self.unit, start + _LENGTHS[self.unit])


@dataclass(frozen=True)
class Whole:
    """A single partition for everything, for datasets whose rows and objects have no day, such as what an API answers
    about each of a list of identifiers. It is named by a fixed day.

    Tables of such a dataset are derived by `lakehouse.derive.by_partition.derive_whole`, with `is_whole`.
    """

    unit: Unit = "day"
    first: date = date(1970, 1, 1)
    zone: str = "UTC"
    last: date | None = None

    @property
    def without(self) -> str:
        return "the day has no partition"

    def of(self, day: date) -> date | None:
        return self.first

    def on_or_after(self, day: date) -> date | None:
        return self.first

    def between(self, first: date, last: date) -> list[date]:
        return [self.first]

    def over_at(self, partition: date) -> datetime:
        return datetime.max.replace(tzinfo=UTC)

    def day_at(self, moment: datetime) -> date:
        return self.first

    def around(self, day: date, start: datetime, end: datetime) -> list[date]:
        return [self.first]


@dataclass(frozen=True)
class Part:
    """The storage partitions of a raw table: the share of an object that is kept or replaced as one.

    `column` is the table's partition column. Its values are the partitions themselves, or the first days of the months
    or years in which these are.
    """

    column: str
    unit: Unit = "day"

    def of(self, partition: date) -> date:
        """The storage partition that a partition's rows are in."""
        return start_of(self.unit, partition)

    def expression(self, partition: pl.Expr) -> pl.Expr:
        """The same of a column of partitions."""
        return partition if self.unit == "day" else partition.dt.truncate({"month": "1mo", "year": "1y"}[self.unit])

    def in_sql(self, partition: str) -> str:
        """The same in SQL."""
        return partition if self.unit == "day" else f"date_trunc('{self.unit}', {partition})::DATE"
