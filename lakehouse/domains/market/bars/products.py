"""What a `defs.yaml` says about a product of a source: bars, or the official daily series. Where its objects are
and how they are named, how rows stand in them, and which column means what.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from lakehouse.domains.market.contracts import contracts
from lakehouse.ingest.coerce import day_of, moment_of
from lakehouse.ingest.names import Objects
from lakehouse.ingest.partitioning import Part
from lakehouse.ingest.row_format import RowFormat, RowTime

if TYPE_CHECKING:
    import polars as pl

_INTERVAL = re.compile(r"(\d+)(s|min|h|d)")
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_REQUIRED = frozenset({"instrument_id", "currency", "open", "high", "low", "close", "volume"})


class BarTime(RowTime):
    """How a row says when it was."""

    label: Literal["start", "end"] = Field("start", description="Which end of a bar the time stands for.")


class Product(RowFormat):
    """A kind of rows that a source delivers: as objects in a bucket, or as an API's answers to requests."""

    raw_table: ClassVar[str]
    part: ClassVar[Part]
    required: ClassVar[frozenset[str]] = _REQUIRED

    objects: Objects | None = Field(None, description="Where the source publishes objects.")
    request: dict[str, str] | None = Field(
        None,
        description="Parameters of the API's request; {symbol} and {month} (YYYY-MM) are filled in. Requests by "
        "month are made for the months of a run's sessions, others have the whole history.",
    )
    time: BarTime

    @model_validator(mode="after")
    def _columns_known(self) -> Product:
        known = set(contracts()[self.raw_table].column_names)
        given = set(self.columns) | set(self.constants) | set(self.named)
        if unknown := given - known:
            raise ValueError(f"{sorted(unknown)} is no column of {self.raw_table}; it has {', '.join(sorted(known))}")
        if missing := self.required - given:
            raise ValueError(
                f"columns, constants and named give no {', '.join(sorted(missing))}; "
                "map each to a column of the object, to a constant, or to a part of the object's name"
            )
        return self

    @model_validator(mode="after")
    def _delivered_one_way(self) -> Product:
        if (self.objects is None) == (self.request is None):
            raise ValueError(f"{self.name} needs either `objects` (a bucket) or `request` (an API), and not both")
        offered = set(self.objects.groups.groupindex) if self.objects else set()
        if self.request is not None:
            offered = {"symbol", "month", *self.request}
        if unknown := sorted(set(self.named.values()) - offered):
            raise ValueError(f"named: {', '.join(unknown)} is none of {', '.join(sorted(offered))}")
        return self

    @model_validator(mode="after")
    def _upper_are_texts(self) -> Product:
        contract, given = contracts()[self.raw_table], {**self.columns, **self.constants, **self.named}
        for name in self.upper:
            if name not in given or contract.column(name).type.kind != "string":
                raise ValueError(f"upper: {name} is no text that columns, constants or named give")
        return self

    @property
    def by_month(self) -> bool:
        """Whether an object holds a whole month, as an API's answers about one do."""
        return self.request is not None and any("{month}" in value for value in self.request.values())

    def object_end(self, day: date, hour: int | None) -> datetime:
        """When the hour or the day that an object is about is over."""
        start = datetime(day.year, day.month, day.day, hour or 0, tzinfo=ZoneInfo(self.time.zone))
        return start + (timedelta(days=1) if hour is None else timedelta(hours=1))


class Bars(Product):
    """Intraday bars."""

    name = "bars"
    raw_table = "raw_bars"
    part = Part("session")

    interval: str = Field("1min", description="Length of a bar: a number and s, min, h or d.")
    volume_unit: float = Field(
        1.0,
        gt=0,
        description="How much of the vendor's unit one unit of volume is: 1e-8 counts bitcoins in satoshis, since a "
        "volume is a whole number.",
    )

    @field_validator("interval")
    @classmethod
    def _is_interval(cls, interval: str) -> str:
        if not _INTERVAL.fullmatch(interval):
            raise ValueError(f"interval {interval!r} is not a number followed by s, min, h or d")
        return interval

    @property
    def interval_length(self) -> timedelta:
        number, unit = _INTERVAL.fullmatch(self.interval).groups()  # type: ignore[union-attr]
        return timedelta(**{_UNITS[unit]: int(number)})


class OfficialDaily(Product):
    """The vendor's official daily series with dividends and splits: a product of its own, made from no bars."""

    name = "official_daily"
    raw_table = "raw_daily"
    part = Part("year", "year")


def bar_times(bars: Bars, time_zone: str) -> Sequence[pl.Expr]:
    """Interval, start_at and end_at (UTC, microseconds) of bars, and the day on the venue's clock when they start."""
    import polars as pl

    label = moment_of(bars.time)
    start = label if bars.time.label == "start" else label - bars.interval_length
    return (
        pl.lit(bars.interval).alias("interval"),
        start.alias("start_at"),
        (start + bars.interval_length).alias("end_at"),
        start.dt.convert_time_zone(time_zone).dt.date().alias("day"),
    )


def daily_times(product: OfficialDaily) -> Sequence[pl.Expr]:
    """The day of an official daily row."""
    return (day_of(product.time).alias("day"),)
