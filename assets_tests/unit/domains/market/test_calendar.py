"""Sessions: daylight saving, half-days, holidays, and the days that are none."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.described import resolved
from lakehouse.catalog import source_named
from lakehouse.domains.market.bars.completeness import completeness, missing_objects
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import session_hours
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.calendar import CalendarSpec, NoSuchSession, SessionCalendar, build_sessions
from lakehouse.domains.market.calendar_cache import load_calendar
from lakehouse.errors import SourceError
from lakehouse.ingest.partitioning import begun

FIRST = date(2017, 6, 19)
DAYS = st.dates(FIRST, date(2021, 12, 31))
XETR = CalendarSpec("XETR", "Europe/Berlin", "another")
XNYS = CalendarSpec("XNYS", "America/New_York", "another")


@pytest.fixture(scope="module")
def xetr() -> SessionCalendar:
    return SessionCalendar("Europe/Berlin", build_sessions(XETR, FIRST))


@pytest.fixture(scope="module")
def xnys() -> SessionCalendar:
    return SessionCalendar(
        "America/New_York", build_sessions(CalendarSpec("XNYS", "America/New_York", "another"), FIRST)
    )


def utc(day: date, clock: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{clock}+00:00")


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        (date(2017, 10, 27), "07:00", "15:30"),
        (date(2017, 10, 30), "08:00", "16:30"),
        (date(2018, 3, 23), "08:00", "16:30"),
        (date(2018, 3, 26), "07:00", "15:30"),
    ],
)
def test_xetra_moves_with_daylight_saving(day: date, opens: str, closes: str, xetr: SessionCalendar) -> None:
    assert xetr.hours(day) == (utc(day, opens), utc(day, closes))


@pytest.mark.parametrize(
    ("day", "opens", "closes", "early"),
    [
        (date(2020, 10, 30), "13:30", "20:00", False),
        (date(2020, 11, 2), "14:30", "21:00", False),
        (date(2020, 11, 27), "14:30", "18:00", True),
        (date(2020, 12, 24), "14:30", "18:00", True),
        (date(2021, 3, 15), "13:30", "20:00", False),
    ],
)
def test_new_york_has_half_days_and_its_own_daylight_saving(
    day: date, opens: str, closes: str, early: bool, xnys: SessionCalendar
) -> None:
    assert xnys.hours(day) == (utc(day, opens), utc(day, closes))
    assert xnys.frame.filter(pl.col("session") == day)["is_early_close"].to_list() == [early]


@pytest.mark.parametrize(
    "day",
    [date(2017, 6, 24), date(2017, 7, 1), date(2017, 12, 25), date(2018, 3, 30), date(2018, 5, 1), date(2018, 12, 24)],
)
def test_weekends_and_holidays_are_no_sessions(day: date, xetr: SessionCalendar) -> None:
    assert not xetr.is_session(day)
    with pytest.raises(NoSuchSession, match=f"{day} is no session of XETR"):
        xetr.hours(day)


def test_thanksgiving_is_no_session_in_new_york_alone(xnys: SessionCalendar, xetr: SessionCalendar) -> None:
    assert not xnys.is_session(date(2020, 11, 26))
    assert xetr.is_session(date(2020, 11, 26))
    assert xnys.session_on_or_after(date(2020, 11, 26)) == date(2020, 11, 27)


@given(day=DAYS)
def test_the_session_on_or_after_a_day_is_the_next_there_is(day: date, xetr: SessionCalendar) -> None:
    found = xetr.session_on_or_after(day)
    assert found is not None
    assert found >= day
    assert xetr.is_session(found)
    assert not any(xetr.is_session(day + timedelta(days)) for days in range((found - day).days))


@pytest.mark.parametrize("day", [FIRST - timedelta(1), FIRST - timedelta(3), FIRST - timedelta(400), date(2100, 1, 4)])
def test_days_outside_the_calendar_belong_to_no_session(day: date, xetr: SessionCalendar) -> None:
    assert xetr.session_on_or_after(day) is None


@given(one=DAYS, other=DAYS)
def test_sessions_between_two_days(one: date, other: date, xetr: SessionCalendar) -> None:
    days = [one + timedelta(days) for days in range((other - one).days + 1)]
    assert xetr.between(one, other) == [day for day in days if xetr.is_session(day)]


def test_begun__ends_on_the_exchanges_own_day(xetr: SessionCalendar) -> None:
    sessions = source_named("xetra").sessions
    found = begun(sessions, FIRST)
    assert found[0] == FIRST
    assert found[-1] <= datetime.now(UTC).date() + timedelta(1)
    assert found == [day for day in xetr.sessions if day <= found[-1]]
    # In Frankfurt a day begins before it does in UTC.
    late = datetime(2017, 7, 11, 22, 30, tzinfo=UTC)
    assert begun(sessions, FIRST, late)[-1] == date(2017, 7, 12)


def test_a_kept_calendar_is_the_calendar(xetr: SessionCalendar, tmp_path: Path) -> None:
    for _ in range(2):
        load_calendar.cache_clear()
        assert load_calendar(XETR, FIRST, tmp_path).frame.equals(xetr.frame)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    load_calendar.cache_clear()
    assert load_calendar(XETR, FIRST, tmp_path).frame.equals(xetr.frame)
    load_calendar.cache_clear()


def test_the_regular_segment_ends_with_the_auction() -> None:
    hours = session_hours(source_named("xetra"))
    row = hours.row(by_predicate=pl.col("session") == date(2017, 7, 12), named=True)
    assert (row["open_at"], row["regular_end_at"]) == (utc(date(2017, 7, 12), "07:00"), utc(date(2017, 7, 12), "15:40"))


@pytest.mark.parametrize(("day", "hours"), [(date(2017, 7, 12), range(7, 16)), (date(2017, 11, 2), range(8, 17))])
def test_a_session_needs_an_object_for_every_hour_of_trading(day: date, hours: range) -> None:
    source = source_named("xetra")
    assert source.expected_objects(day) == [(day, hour) for hour in hours]
    ledger = answered_for(day, *(f"{day}/{day}_BINS_XETR{hour:02}.csv" for hour in hours))
    assert missing_objects(source, ledger, [day]) == {}
    first = {day: [f"{day} hour {hours[0]:02}"]}
    assert missing_objects(source, ledger[1:], [day]) == first
    failed = ledger.with_columns(status=pl.lit("failed"))[:1]
    assert missing_objects(source, pl.concat([failed, ledger[1:]]), [day]) == first
    assert missing_objects(source, ledger.with_columns(product=pl.lit("official_daily")), [day]).keys() == {day}
    # What can't have been published by then is not missed.
    assert missing_objects(source, ledger[1:], [day], due_by=utc(day, f"{hours[0]:02}:59")) == {}
    assert missing_objects(source, ledger[1:], [day], due_by=utc(day, f"{hours[1]:02}:00")) == first


def answered_for(day: date, *names: str) -> pl.DataFrame:
    """A ledger's rows of objects of bars that were loaded."""
    rows = [(name, "bars", "loaded", utc(day, "23:00"), day, day) for name in names]
    columns = ("object", "product", "status", "published_at", "first_session", "last_session")
    return pl.DataFrame(rows, schema=list(columns), orient="row")


def test_an_hour_is_on_the_clock_of_the_objects_names() -> None:
    source = source_named("xetra")
    data = source.config.model_dump() | {"calendar": "XNYS", "minutes_after_close": 0}
    data["bars"]["time"] |= {"zone": "America/New_York"}
    data["venue"] |= {"time_zone": "America/New_York"}
    eastern = resolved(SourceConfig.model_validate(data))
    for day in (date(2020, 10, 30), date(2020, 11, 2)):
        assert eastern.expected_objects(day) == [(day, hour) for hour in range(9, 16)]
    assert eastern.expected_objects(date(2020, 11, 27)) == [(date(2020, 11, 27), hour) for hour in range(9, 13)]


def hourly(calendar: Any, zone: str, **objects: Any) -> BarSource:
    """A source of objects by hour."""
    data = source_named("xetra").config.model_dump() | {"calendar": calendar, "minutes_after_close": 0}
    data["bars"]["time"] |= {"zone": zone}
    data["bars"]["objects"] |= objects
    data["venue"] |= {"time_zone": zone}
    return resolved(SourceConfig.model_validate(data))


def test_hours_of_names_are_those_of_a_clock_half_an_hour_beside_utc() -> None:
    day = date(2024, 1, 18)
    assert hourly("XBOM", "Asia/Kolkata").expected_objects(day) == [(day, hour) for hour in range(9, 16)]


def test_hours_of_sessions_that_begin_on_the_evening_before() -> None:
    day = date(2024, 3, 6)
    named = hourly("CMES", "America/Chicago", clock="partition").expected_objects(day)
    assert named == [(day, hour) for hour in (*range(17, 24), *range(17))]


def test_a_session_that_was_closed_later_needs_no_objects() -> None:
    day = date(2024, 1, 18)
    source = hourly({"code": "XBOM", "closed": [day]}, "Asia/Kolkata")
    ledger = answered_for(day, f"{day}/{day}_BINS_XETR09.csv")
    assert missing_objects(source, ledger, [day]) == {}
    assert missing_objects(hourly("XBOM", "Asia/Kolkata"), ledger, [day]).keys() == {day}
    assert completeness(source, ledger, [day])["open_at"].to_list() == [None]


def test_a_calendar_has_another_name_where_its_sessions_are_not_those_of_the_code() -> None:
    def name(code: str, zone: str, **changes: Any) -> str:
        spec = CalendarSpec(code, zone, "another", **changes)
        return SessionCalendar(zone, build_sessions(spec, date(2024, 1, 2))).name

    assert name("XBOM", "Asia/Kolkata") == "XBOM"
    assert name("XBOM", "Asia/Kolkata", closed=(date(2024, 1, 20),)) == "XBOM"
    assert name("XBOM", "Asia/Kolkata", also=((date(2024, 1, 20), None),)) == "another"
    assert name("24/7", "UTC") == "24/7"
    assert name("24/7", "Europe/Berlin") == "another"
    with pytest.raises(SourceError, match=r"day_starts is for calendars around the clock.*sessions of XETR have hours"):
        name("XETR", "Europe/Berlin", day_starts=time(9))


def test_a_day_begins_late_where_clocks_go_forward_at_midnight() -> None:
    """In Cairo clocks went from 2024-04-26 00:00 to 01:00."""
    spec = CalendarSpec("24/7", "Africa/Cairo", "another")
    calendar = SessionCalendar("Africa/Cairo", build_sessions(spec, date(2024, 4, 20)))
    assert calendar.hours(date(2024, 4, 25)) == (utc(date(2024, 4, 24), "22:00"), utc(date(2024, 4, 25), "22:00"))
    assert calendar.hours(date(2024, 4, 26)) == (utc(date(2024, 4, 25), "22:00"), utc(date(2024, 4, 26), "21:00"))
