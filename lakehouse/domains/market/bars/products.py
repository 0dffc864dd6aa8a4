"""What a `defs.yaml` says about a product of a source: bars, or the official daily series. Where its objects are
and how they are named, how rows stand in them, and which column means what.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from lakehouse.domains.market.contracts import contracts
from lakehouse.domains.market.sessions import Sessions
from lakehouse.ingest.coerce import received, text_of
from lakehouse.ingest.http.requests import is_by_month
from lakehouse.ingest.names import Objects
from lakehouse.ingest.partitioning import Part
from lakehouse.ingest.row_format import RowFormat, RowTime
from lakehouse.ingest.times import day_of, faults_of, moments

if TYPE_CHECKING:
    import polars as pl

_INTERVAL = re.compile(r"(\d+)(s|min|h|d)")
_DAY = timedelta(days=1)
_OFF_GRID = "is_off_grid"
_ELSEWHERE = "is_elsewhere"
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_REQUIRED = frozenset({"instrument_id", "currency", "open", "high", "low", "close"})


def _length(interval: re.Match[str]) -> timedelta:
    number, unit = interval.groups()
    return timedelta(**{_UNITS[unit]: int(number)})


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
        description="Parameters of the API's request; {symbol} and {month} (YYYY-MM) are filled in, or the month as "
        "{month_first} and {month_last} (dates), {month_start} and {month_end} (midnights at the venue, in UTC), "
        "{month_start_s} and {month_end_s} (the same in seconds since 1970). Requests by month are made for the months "
        "of a run's sessions, others have the whole history. A parameter whose name stands in braces in `api.url` goes "
        "there.",
    )
    time: BarTime
    price_unit: float = Field(
        1.0,
        gt=0,
        description="How much of the currency one unit of the vendor's prices (and dividends) is: 1e-9 where integers "
        "count billionths, 0.01 for pence, with the currency GBP.",
    )
    volume: Literal["none"] | None = Field(
        None, description="`none` where the vendor has no volumes (currencies, indices): every bar counts as traded."
    )

    @model_validator(mode="after")
    def _columns_known(self) -> Product:
        known = set(contracts()[self.raw_table].column_names)
        given = set(self.columns) | set(self.constants) | set(self.named)
        if unknown := given - known:
            raise ValueError(f"{sorted(unknown)} is no column of {self.raw_table}; it has {', '.join(sorted(known))}")
        if self.volume and "volume" in given:
            raise ValueError("volume: none contradicts the column `volume` that is given; leave one of them out")
        required = self.required if self.volume else self.required | {"volume"}
        if missing := required - given:
            raise ValueError(
                f"columns, constants and named give no {', '.join(sorted(missing))}; "
                "map each to a column of the object, to a constant, or to a part of the object's name"
                f"{'; write volume: none where there are no volumes' if 'volume' in missing else ''}"
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
        for entry in ("upper", "values"):
            for name in getattr(self, entry):
                if name not in given or contract.column(name).type.kind != "string":
                    raise ValueError(f"{entry}: {name} is no text that columns, constants or named give")
        return self

    @property
    def clock(self) -> str | None:
        """Time zone of the dates and hours in objects' names; None: they name sessions, or no time."""
        if self.objects is None or self.objects.holds == "history" or self.objects.clock == "partition":
            return None
        return self.objects.clock or self.time.zone

    @property
    def by_month(self) -> bool:
        """Whether an object holds a whole month, as an API's answers about one do."""
        return self.request is not None and is_by_month(self.request)

    def object_end(self, day: date, hour: int | None) -> datetime:
        """When the hour or the day that an object is about is over."""
        start = datetime(day.year, day.month, day.day, hour or 0, tzinfo=ZoneInfo(self.clock or self.time.zone))
        return start + (timedelta(days=1) if hour is None else timedelta(hours=1))


class Bars(Product):
    """Intraday bars."""

    name = "bars"
    raw_table = "raw_bars"
    part = Part("session")

    interval: str = Field("1min", description="Length of a bar: a number and s, min, h or d.")
    volume_unit_before: float = Field(
        1.0,
        gt=0,
        exclude=True,
        description="For `lakehouse migrate` alone: in which part of the vendor's unit an earlier release counted the "
        "volumes that the lake holds, where it did (1e-8: bitcoins in satoshis). Now they are in the vendor's unit.",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_volume_unit(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "volume_unit" not in given:
            return given
        _warn_of_volume_unit()
        return {"volume_unit_before" if name == "volume_unit" else name: value for name, value in given.items()}

    @field_validator("interval")
    @classmethod
    def _is_interval(cls, interval: str) -> str:
        match = _INTERVAL.fullmatch(interval)
        if match is None:
            raise ValueError(f"interval {interval!r} is not a number followed by s, min, h or d")
        if not timedelta(0) < _length(match) <= _DAY:
            raise ValueError(
                f"interval {interval!r} is not between 1s and 1d: a bar belongs to one session, which bars of weeks "
                "and months don't; ask the vendor for daily or shorter bars"
            )
        return interval

    @property
    def interval_length(self) -> timedelta:
        match = _INTERVAL.fullmatch(self.interval)
        assert match is not None
        return _length(match)


class OfficialDaily(Product):
    """The vendor's official daily series with dividends and splits: a product of its own, made from no bars."""

    name = "official_daily"
    raw_table = "raw_daily"
    part = Part("year", "year")


@cache
def _warn_of_volume_unit() -> None:
    logging.getLogger(__name__).warning(
        "the entry `volume_unit` of a defs.yaml counts no more: volumes are stored in the vendor's own unit, whole or "
        "fractional. Call it `volume_unit_before` until `lakehouse migrate --apply` has converted the volumes that the "
        "lake holds, or remove it; the next version will not read it"
    )


def bar_faults(bars: Bars, sessions: Sessions, mics: Sequence[str] = ()) -> dict[str, str]:
    """The columns of `bar_times` that mark a bar as unusable, with the reason.

    Args:
        mics: the markets of a source with several.
    """
    label = "begins" if bars.time.label == "start" else "ends"
    elsewhere = {_ELSEWHERE: f"the market (mic) is not one of {', '.join(mics)}"} if mics else {}
    return {
        **elsewhere,
        **faults_of(bars.time),
        _OFF_GRID: f"the bar {label} between two of {bars.interval}, counted from the hour, from midnight or from the "
        f"session's {'opening' if bars.time.label == 'start' or bars.interval_length < _DAY else 'close'}",
    }


def bar_times(bars: Bars, sessions: Sessions, text: pl.DataFrame, mics: Sequence[str] = ()) -> pl.DataFrame:
    """What the time of a bar says, and whether its market is one of `mics`, where the source has several.

    Returns: interval, start_at and end_at (UTC, microseconds), day (the session; without one the date on the venue's
        clock), first_day and last_day (the dates of the bar's start, and of its label, on the clocks that names of
        objects may follow, the session among them), and the columns of `bar_faults`.
    """
    import polars as pl

    length = bars.interval_length
    series = [pl.col("object_number"), *(received(bars, name) for name in ("instrument_id", "currency"))]
    found = moments(text, bars.time, series)
    start = pl.col("label") if bars.time.label == "start" else pl.col("label") - length
    found = found.with_columns(start_at=start, end_at=start + length)
    found = found.hstack(sessions.place(found["start_at"], length))
    clocks = {"UTC", bars.time.zone, *([bars.clock] if bars.clock else [])} - {sessions.zone}
    # A vendor that labels bars by their ends may also file by them: the bar that ends at midnight stands in the next
    # day's object.
    labelled = {"start_at": clocks, "label": {sessions.zone, *clocks} if bars.time.label == "end" else set()}
    dates = [
        pl.col("day", "date"),
        *(
            pl.col(name).dt.convert_time_zone(zone).dt.date().alias(f"{name} {zone}")
            for name, zones in labelled.items()
            for zone in zones
        ),
    ]
    return found.select(
        pl.lit(bars.interval).alias("interval"),
        "start_at",
        "end_at",
        "day",
        pl.min_horizontal(dates).alias("first_day"),
        pl.max_horizontal(dates).alias("last_day"),
        *faults_of(bars.time),
        _off_grid(found, bars, sessions.zone).alias(_OFF_GRID),
        *([_elsewhere(text, bars, mics)] if mics else []),
    )


def _elsewhere(text: pl.DataFrame, bars: Bars, mics: Sequence[str]) -> pl.Series:
    """Whether a bar is of none of the source's markets, or doesn't say of which."""
    return text.select((~text_of(bars, "mic").is_in(mics)).fill_null(True).alias(_ELSEWHERE)).to_series()


def _off_grid(found: pl.DataFrame, bars: Bars, zone: str) -> pl.Series:
    """Whether a bar's label is none of those at which its kind begins or ends."""
    import polars as pl

    step = bars.interval_length // timedelta(microseconds=1)
    day = _DAY // timedelta(microseconds=1)

    def is_off(moment: pl.Expr) -> pl.Expr:
        return moment.to_physical() % day % step != 0

    label = pl.col("label")
    off = found.select(is_off(label).fill_null(False))["label"]
    if not off.any():
        return off
    # Bars of less than a day may be counted from the opening, or from the end of the lunch break; those of a day end
    # with the session.
    ends_the_day = bars.time.label == "end" and bars.interval_length >= _DAY
    anchors = ["close_at"] if ends_the_day else ["open_at", "resumes_at"]
    from_anchors = [
        ((label.to_physical() - pl.col(anchor).to_physical()) % step != 0).fill_null(True) for anchor in anchors
    ]
    on_the_clock = is_off(label.dt.convert_time_zone(zone).dt.replace_time_zone(None))
    return found.select(pl.all_horizontal(off, on_the_clock, *from_anchors).alias("label"))["label"]


def daily_times(product: OfficialDaily, text: pl.DataFrame) -> pl.DataFrame:
    """The day of an official daily row."""
    return text.select(day=day_of(product.time))
