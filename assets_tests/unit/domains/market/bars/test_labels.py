"""Labels held against the calendar, and bars off the grid of their interval."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache

import duckdb
import polars as pl
import pytest

from assets_tests.support.described import resolved
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.labels import labels_against_hours
from lakehouse.domains.market.bars.products import bar_times

SESSION = date(2024, 3, 8)
OPEN, CLOSE = datetime(2024, 3, 8, 14, 30, tzinfo=UTC), datetime(2024, 3, 8, 21, tzinfo=UTC)
PRE, POST = datetime(2024, 3, 8, 9, tzinfo=UTC), datetime(2024, 3, 9, 1, tzinfo=UTC)
HOURS = pl.DataFrame({"session": [SESSION], "open_at": [OPEN], "close_at": [CLOSE], "regular_end_at": [CLOSE]})


def verdict(first: datetime, last: datetime, interval: timedelta, shift: int) -> tuple[int, int, int]:
    """fit, early and late of a session with a bar in every interval from `first` to `last`, moved by `shift`."""
    count = (last - first) // interval
    starts = [first + interval * (number + shift) for number in range(count)]
    bars = pl.DataFrame({"start_at": starts}).with_columns(
        session=pl.lit(SESSION), end_at=pl.col("start_at") + interval, is_traded=pl.lit(True)
    )
    bars = bars.with_columns(
        segment=pl.when(pl.col("end_at") <= OPEN).then(pl.lit("pre")).when(pl.col("start_at") < CLOSE).then(
            pl.lit("regular")
        ).otherwise(pl.lit("post"))
    )  # fmt: skip
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("bars", bars)
        connection.register("hours", HOURS)
        row = connection.execute(f"SELECT fit, early, late FROM ({labels_against_hours('bars', 'hours', interval)})")
        (found,) = row.fetchall()
    return found


@pytest.mark.parametrize("minutes", [1, 5, 15, 30])
@pytest.mark.parametrize(("first", "last"), [(OPEN, CLOSE), (PRE, POST)], ids=["regular", "extended"])
def test_a_label_taken_for_the_other_end_shows(first: datetime, last: datetime, minutes: int) -> None:
    interval = timedelta(minutes=minutes)
    fit, early, late = verdict(first, last, interval, 0)
    is_extended_and_coarse = minutes > 15 and first == PRE
    if is_extended_and_coarse:
        # Half hours fit in any case: there is no verdict.
        assert max(early, late) <= 1
        return
    assert (fit, early, late) == (2, 0, 0) or (fit == 2 and max(early, late) <= fit)
    for shift, place in ((-1, 1), (1, 2)):
        found = verdict(first, last, interval, shift)
        assert found[place] == 2
        assert found[place] > found[0]


@cache
def vendor() -> SourceConfig:
    return source_named("alpha_vantage").config


@pytest.mark.parametrize("interval", ["7d", "2d", "25h", "0min", "1w", "1mo", "1M"])
def test_intervals_beyond_a_day_are_refused(interval: str) -> None:
    data = vendor().model_dump(exclude_unset=True)
    data["bars"]["interval"] = interval
    with pytest.raises(ValueError, match=r"is not (between 1s and 1d|a number followed by)"):
        SourceConfig.model_validate(data)


def faults(interval: str, label: str, *texts: str, code: str = "XNYS", zone: str = "America/New_York") -> list[bool]:
    """Of each label at the exchange, whether it is off the grid of the interval."""
    data = vendor().model_dump(exclude_unset=True) | {"calendar": code, "first_session": date(2024, 1, 4)}
    data["venue"] |= {"time_zone": zone}
    data["bars"] |= {"interval": interval}
    data["bars"]["time"] |= {"label": label, "zone": zone}
    source = resolved(SourceConfig.model_validate(data))
    text = pl.DataFrame({"timestamp": list(texts), "named:symbol": "A", "object_number": 0})
    return bar_times(source.bars_config, source.sessions, text)["is_off_grid"].to_list()


def test_the_vendors_live_minute_is_off_the_grid() -> None:
    assert faults("1min", "start", "2024-03-08 15:37:00", "2024-03-08 15:37:42") == [False, True]
    assert faults("1s", "start", "2024-03-08 15:37:42") == [False]


def test_hours_may_be_counted_from_the_hour_or_from_the_opening() -> None:
    assert faults("1h", "start", "2024-03-08 09:00:00", "2024-03-08 09:30:00", "2024-03-08 09:40:00") == [
        False, False, True,
    ]  # fmt: skip


def test_hours_may_be_counted_from_the_end_of_a_lunch_break() -> None:
    """Tokyo traded from 9:00 to 11:30 and from 12:30 to 15:00."""
    clocks = ("09:00", "11:00", "12:30", "13:30", "12:40")
    texts = [f"2024-03-08 {clock}:00" for clock in clocks]
    assert faults("1h", "start", *texts, code="XTKS", zone="Asia/Tokyo") == [False, False, False, False, True]


def test_a_daily_bar_begins_at_midnight_or_the_opening_or_ends_at_midnight_or_the_close() -> None:
    # Midnight in New York and in UTC (19:00), the opening, the close; on a half-day, too.
    assert faults("1d", "start", *(f"2024-03-08 {clock}:00" for clock in ("00:00", "19:00", "09:30", "16:00"))) == [
        False, False, False, True,
    ]  # fmt: skip
    assert faults("1d", "end", *(f"2024-03-08 {clock}:00" for clock in ("00:00", "09:30", "16:00"))) == [
        False, True, False,
    ]  # fmt: skip
    assert faults("1d", "end", "2024-11-29 13:00:00", "2024-11-29 16:00:00") == [False, True]
