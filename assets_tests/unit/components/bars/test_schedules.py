"""The schedules of an API source: which sessions they ask for at which moment, and when they hold back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator
from hypothesis import given
from hypothesis import strategies as st

from assets_tests.support.described import changed
from lakehouse.catalog import source_named, sources_of
from lakehouse.components.bars.schedules import swept, update_schedules
from lakehouse.components.sources.partitions import time_windows
from lakehouse.components.sources.run_tags import RANGE_END_TAG, RANGE_START_TAG
from lakehouse.domains.market.bars.config import Updates
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.settings import settings

NEW_YORK = ZoneInfo("America/New_York")
KEY = "ALPHA_VANTAGE_API_KEY"
Schedules = dict[str, dg.ScheduleDefinition]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the calendar is kept, made once for all tests."""
    folder = tmp_path_factory.mktemp("schedules")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LAKEHOUSE_HOME", str(folder))
        settings.cache_clear()
        yield folder
    settings.cache_clear()


@pytest.fixture
def source(home: Path, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> BarSource:
    """The API source as its YAML describes it, its key set."""
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    monkeypatch.setenv(KEY, "a key")
    settings.cache_clear()
    return source_named("alpha_vantage")


@pytest.fixture
def schedules(source: BarSource) -> Schedules:
    return {
        made.name.removeprefix("alpha_vantage_"): made
        for made in update_schedules(lambda: source_named(source.name), "alpha_vantage_update")
    }


def at(year: int, month: int, day: int, hour: int, minute: int = 30) -> datetime:
    """A moment on New York's clock."""
    return datetime(year, month, day, hour, minute, tzinfo=NEW_YORK)


def evaluated(schedule: dg.ScheduleDefinition, moment: datetime) -> dg.ScheduleExecutionData:
    with dg.build_schedule_context(scheduled_execution_time=moment) as context:
        return schedule.evaluate_tick(context)


def asked(schedule: dg.ScheduleDefinition, moment: datetime) -> tuple[str, str]:
    """The first and the last session of the one run that a schedule asks for."""
    (request,) = evaluated(schedule, moment).run_requests or ()
    return request.tags[RANGE_START_TAG], request.tags[RANGE_END_TAG]


def test_the_clock_is_the_yamls_and_they_run_from_the_start(schedules: Schedules) -> None:
    said = {
        name: (made.job_name, made.cron_schedule, made.execution_timezone, made.default_status)
        for name, made in schedules.items()
    }
    job, zone, running = "alpha_vantage_update", "America/New_York", dg.DefaultScheduleStatus.RUNNING
    assert said == {
        "after_close": (job, "30 20 * * *", zone, running),
        "sweep": (job, "30 22 3 * *", zone, running),
    }


def test_other_times_are_another_yaml(source: BarSource) -> None:
    updates = Updates(after_close="23:05", sweep_day=12, sweep_months=1)
    later = changed(source, updates=updates)
    assert [made.cron_schedule for made in update_schedules(lambda: later, "any")] == ["5 23 * * *", "5 1 12 * *"]


def test_a_source_without_updates_has_none(source: BarSource) -> None:
    bucket = [each for each in sources_of("market") if each.config.api is None]
    assert len(bucket) >= 2
    for each in (*bucket, changed(source, updates=None)):
        assert update_schedules(lambda each=each: each, "any") == []


@pytest.mark.parametrize(
    "day",
    [
        date(2024, 3, 28),  # before a long weekend
        date(2024, 3, 8),  # the last session of winter time, and the first of summer time
        date(2024, 3, 11),
        date(2024, 11, 1),  # and back
        date(2024, 11, 4),
        date(2024, 11, 29),  # a half-day
        date(2024, 12, 31),
        date(2025, 1, 2),
    ],
)
def test_after_the_close_the_session_is_asked_for(schedules: Schedules, source: BarSource, day: date) -> None:
    moment = at(day.year, day.month, day.day, 20)
    assert asked(schedules["after_close"], moment) == (str(day), str(day))
    # In UTC it is the next day already.
    assert moment.astimezone(UTC).date() == day + timedelta(days=1)
    assert asked(schedules["after_close"], moment.astimezone(UTC)) == (str(day), str(day))
    opened, closed = source.calendar.hours(day)
    assert opened < closed < moment


@pytest.mark.parametrize("day", [date(2024, 3, 29), date(2024, 3, 30), date(2024, 3, 31), date(2024, 12, 25)])
def test_a_day_without_a_session_is_skipped(schedules: Schedules, day: date) -> None:
    found = evaluated(schedules["after_close"], at(day.year, day.month, day.day, 20))
    assert not found.run_requests
    assert found.skip_message == f"XNYS has no session from {day} to {day}"


@pytest.mark.parametrize("name", ["after_close", "sweep"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_without_a_key_nothing_is_asked_for(
    schedules: Schedules, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    """The key is looked for at each tick: the moment it is there, the schedule asks."""
    moment = at(2024, 5, 3, 20)
    if value is None:
        monkeypatch.delenv(KEY)
    else:
        monkeypatch.setenv(KEY, value)
    found = evaluated(schedules[name], moment)
    assert not found.run_requests
    assert found.skip_message == f"{KEY} is not set, so that alpha_vantage can't be asked"

    monkeypatch.setenv(KEY, "a key")
    assert evaluated(schedules[name], moment).run_requests


@pytest.mark.parametrize(
    ("moment", "sessions"),
    [
        (at(2024, 5, 3, 22), ("2024-03-01", "2024-04-30")),
        (at(2024, 3, 3, 22), ("2024-01-02", "2024-02-29")),
        (at(2024, 2, 3, 22), ("2023-12-01", "2024-01-31")),
        (at(2024, 1, 3, 22), ("2023-11-01", "2023-12-29")),
        (at(1999, 12, 3, 22), ("1999-11-01", "1999-11-30")),  # the vendor's history begins
    ],
)
def test_the_sweep_asks_for_the_two_months_before(
    schedules: Schedules, source: BarSource, moment: datetime, sessions: tuple[str, str]
) -> None:
    assert asked(schedules["sweep"], moment) == sessions
    # The run's tags have to name partitions, or Dagster refuses it.
    keys = time_windows(source.sessions).get_partition_keys()
    assert set(sessions) <= set(keys)


def test_a_sweep_before_the_history_is_skipped(schedules: Schedules) -> None:
    found = evaluated(schedules["sweep"], at(1999, 11, 3, 22))
    assert not found.run_requests
    assert found.skip_message == "XNYS has no session from 1999-09-01 to 1999-10-31"


@given(today=st.dates(date(1999, 11, 1), date(2100, 12, 31)), months=st.integers(1, 40))
def test_a_sweep_covers_whole_months_up_to_this_one(today: date, months: int) -> None:
    first, last = swept(today, Updates(after_close="20:30", sweep_months=months))
    assert first.day == 1
    assert last + timedelta(days=1) == today.replace(day=1)
    assert (today.year - first.year) * 12 + today.month - first.month == months


def test_each_session_is_asked_for_once_at_the_same_hour_whatever_the_clocks_do(schedules: Schedules) -> None:
    """A year of Dagster's own ticks, with both changes of clocks in it."""
    made = schedules["after_close"]
    start = at(2024, 1, 1, 0).timestamp()
    ticks = list(islice(schedule_execution_time_iterator(start, made.cron_schedule, made.execution_timezone), 366))
    local = [tick.astimezone(NEW_YORK) for tick in ticks]
    assert {(tick.hour, tick.minute) for tick in local} == {(20, 30)}
    assert {tick.astimezone(UTC).hour for tick in ticks} == {0, 1}
    assert [tick.date() for tick in local] == [date(2024, 1, 1) + timedelta(days=number) for number in range(366)]

    requests = [request for tick in ticks for request in evaluated(made, tick).run_requests or ()]
    keys = [request.run_key for request in requests]
    assert len(set(keys)) == len(keys) == 252  # the sessions that the exchange had in 2024
    assert all(request.tags[RANGE_START_TAG] == request.tags[RANGE_END_TAG] for request in requests)
