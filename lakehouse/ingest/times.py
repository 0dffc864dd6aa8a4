"""Parses the times of rows: their texts become moments in UTC.

An offset in a text always counts, whatever the zone in the YAML. On the day when clocks go back an hour comes twice;
the order of the rows tells its two passes apart. Which day and partition a moment belongs to is the dataset's matter
(see `lakehouse.ingest.dataset`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lakehouse.ingest.from_text import in_years
from lakehouse.ingest.row_format import RowTime

if TYPE_CHECKING:
    import polars as pl

WITH_OFFSET = re.compile(r"%[:#]*z|%\+|%s|[^%]Z$")
"""Formats whose texts name a moment without a zone's help: an offset, seconds since 1970, a Z at the end."""
_EPOCH_UNITS = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
"""(limit, microseconds per unit): epoch values below the limit are in that unit. The units differ by a factor of 1,000,
so any time from 1973 to 5138 determines its unit.
"""
TWICE, SKIPPED = "comes_twice", "is_skipped"


def faults_of(time: RowTime) -> dict[str, str]:
    """The columns of `moments` that mark a time as unusable, with the reason."""
    return {
        TWICE: f"the time comes twice on its day in {time.zone}, where clocks go back, and the order of the rows "
        "doesn't tell which it is",
        SKIPPED: f"there is no such time on its day in {time.zone}, where clocks go forward",
    }


def day_of(time: RowTime) -> pl.Expr:
    """The date of a row, if the format is one of dates."""
    return in_years(_joined(time).str.to_date(time.format, strict=False))


def moments(text: pl.DataFrame, time: RowTime, series: Sequence[pl.Expr]) -> pl.DataFrame:
    """The time that each row is labelled with.

    Args:
        text: the object's columns as received.
        series: what tells apart the rows that are each in order of time, such as a symbol.

    Returns: label (UTC, microseconds; NULL where there is none), and a boolean for each of `faults_of`, true where the
        text is a time of the format but no moment follows from it.
    """
    import polars as pl

    never = pl.lit(False)
    if time.format == "epoch":
        return text.select(label=_of_epoch(time), **{TWICE: never, SKIPPED: never})
    if WITH_OFFSET.search(time.format):
        label = _joined(time).str.to_datetime(time.format, time_unit="us", time_zone="UTC", strict=False)
        label = in_years(label.dt.replace_time_zone(None)).dt.replace_time_zone("UTC")
        return text.select(label=label, **{TWICE: never, SKIPPED: never})
    local = in_years(_joined(time).str.to_datetime(time.format, time_unit="us", strict=False))
    frame = text.select(local=local)
    here = pl.col("local").dt
    earliest = here.replace_time_zone(time.zone, ambiguous="earliest", non_existent="null")
    frame = frame.with_columns(label=earliest.dt.convert_time_zone("UTC"))
    if time.zone == "UTC":
        return frame.select("label", **{TWICE: never, SKIPPED: never})
    latest = here.replace_time_zone(time.zone, ambiguous="latest", non_existent="null")
    frame = frame.with_columns(second=latest.dt.convert_time_zone("UTC"))
    is_twice = frame["label"] != frame["second"]
    if is_twice.any():
        place = text.select(pl.struct(pl.int_range(pl.len()) if not series else list(series)).alias("series"))
        frame = frame.with_columns(is_twice=is_twice).hstack(place)
        frame = frame.with_columns(which=_pass_of(frame))
        frame = frame.with_columns(
            label=pl.when(~pl.col("is_twice") | (pl.col("which") == 1)).then("label").when(which=2).then("second")
        )
    there = pl.col("local").is_not_null() & pl.col("label").is_null()
    return frame.select(
        "label", **{TWICE: there & pl.col("second").is_not_null(), SKIPPED: there & pl.col("second").is_null()}
    )


def _pass_of(frame: pl.DataFrame) -> pl.Series:
    """1 or 2 for the rows whose local time comes twice, NULL where their order doesn't tell: within its series and
    day, the times go back once, from the first pass to the second (or forward once, where the newest rows come first).
    """
    import polars as pl

    of_series = ["series", pl.col("local").dt.date()]
    # The direction by all rows of the series; those of the hour alone go both ways.
    local = pl.col("local").drop_nulls()
    falls = (local.first() > local.last()).over("series")
    step = pl.col("local").diff().over(of_series)
    turns = pl.when("falls").then(step >= pl.duration(microseconds=0)).otherwise(step <= pl.duration(microseconds=0))
    hour = (
        frame.with_row_index("row")
        .with_columns(falls=falls)
        .filter("is_twice")
        .with_columns(turns=turns.fill_null(False))
        .with_columns(passed=pl.col("turns").cum_sum().over(of_series), all=pl.col("turns").sum().over(of_series))
        .filter(pl.col("all") == 1)
        .select("row", which=pl.when("falls").then(2 - pl.col("passed")).otherwise(1 + pl.col("passed")))
    )
    rows = pl.DataFrame({"row": pl.int_range(frame.height, dtype=pl.UInt32, eager=True)})
    return rows.join(hour, on="row", how="left", maintain_order="left")["which"]


def _joined(time: RowTime) -> pl.Expr:
    import polars as pl

    return pl.concat_str([pl.col(column) for column in time.columns], separator=" ")


def _of_epoch(time: RowTime) -> pl.Expr:
    import polars as pl

    count = _joined(time).cast(pl.Int64, strict=False)
    # The smallest 64-bit integer has no absolute value.
    count = pl.when(count > -(2**63)).then(count)
    microseconds = count // 1_000
    for below, unit in reversed(_EPOCH_UNITS):
        microseconds = pl.when(count.abs() < below).then(count * unit).otherwise(microseconds)
    return in_years(microseconds.cast(pl.Datetime("us"))).dt.replace_time_zone("UTC")
