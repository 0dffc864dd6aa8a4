"""A source's partitions for Dagster: the keys are remembered, and are those that Dagster would list."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from lakehouse.components.sources.partitions import TimeWindows, time_windows
from lakehouse.ingest.partitioning import Periods, Unit

NOON = datetime(2024, 3, 28, 12, tzinfo=UTC)
ONE_BEFORE_MIDNIGHT = datetime(2024, 3, 31, 21, 59, tzinfo=UTC)
"""In Berlin, on the day on which its clocks go forward."""


def definition(unit: Unit = "day") -> dg.TimeWindowPartitionsDefinition:
    return time_windows(Periods(unit, date(2020, 1, 1), "Europe/Berlin"))


def without_memory(known: dg.TimeWindowPartitionsDefinition) -> dg.TimeWindowPartitionsDefinition:
    return dg.TimeWindowPartitionsDefinition(
        start=known.start,
        fmt=known.fmt,
        timezone=known.timezone,
        end_offset=known.end_offset,
        cron_schedule=known.cron_schedule,
        exclusions=known.exclusions,
    )


@pytest.mark.parametrize("unit", ["day", "month", "year"])
def test_keys_are_those_of_dagster_at_any_moment(unit: Unit) -> None:
    known = definition(unit)
    own = without_memory(known)
    moments = [NOON + timedelta(days=days) for days in (0, 0, 1, 400, 1, -200)]
    moments += [ONE_BEFORE_MIDNIGHT, ONE_BEFORE_MIDNIGHT + timedelta(minutes=1), datetime(2019, 5, 1, tzinfo=UTC)]
    for moment in moments:
        assert known.get_partition_keys(moment) == own.get_partition_keys(moment), moment
        with partition_loading_context(moment):
            assert known.get_partition_keys() == own.get_partition_keys(), moment


def test_days_are_walked_over_once_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    known, walked = definition(), []
    walk = dg.TimeWindowPartitionsDefinition._iterate_time_windows

    def counted(self: TimeWindows, *args: float, **options: bool) -> Iterator[object]:
        for window in walk(self, *args, **options):
            walked.append(window)
            yield window

    monkeypatch.setattr(dg.TimeWindowPartitionsDefinition, "_iterate_time_windows", counted)
    keys = known.get_partition_keys(NOON)
    assert len(walked) >= len(keys) > 1500
    walked.clear()
    assert [known.get_partition_keys(NOON + timedelta(minutes=number)) for number in range(5)] == [keys] * 5
    assert len(walked) < 20
    assert known.get_partition_keys(NOON + timedelta(days=1)) == [*keys, "2024-03-29"]


def test_a_caller_may_change_its_list() -> None:
    known = definition()
    keys = list(known.get_partition_keys(NOON))
    for _ in range(2):
        answer = known.get_partition_keys(NOON)
        assert answer == keys
        assert isinstance(answer, list)
        answer.clear()


def test_it_equals_the_definition_that_dagster_makes_of_its_description() -> None:
    known = definition()
    assert known == without_memory(known)
    assert hash(known) == hash(without_memory(known))
