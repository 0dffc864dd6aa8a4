"""A source's partitions for Dagster. They are a time window definition, not a list of names, so that ranges, the
backfill page and partition mappings treat them as days (or months, or years), and tomorrow's needs no reload.

A cron schedule and exclusions leave out days without a partition, such as weekends and an exchange's holidays. Today is
a partition, since objects arrive during the day; so is tomorrow, where partitions begin on the evening before.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from lakehouse.ingest.partitioning import Partitioning

_CRON = {"month": "0 0 1 * *", "year": "0 0 1 1 *"}


def time_windows(partitions: Partitioning) -> dg.TimeWindowPartitionsDefinition:
    """Makes Dagster's definition; a partition's key is its ISO date."""
    weekdays, without = _days_left_out(partitions)
    return dg.TimeWindowPartitionsDefinition(
        start=partitions.first.isoformat(),
        fmt="%Y-%m-%d",
        cron_schedule=_CRON.get(partitions.unit) or f"0 0 * * {','.join(map(str, weekdays)) or '*'}",
        timezone=partitions.zone,
        end_offset=2 if _begins_before_its_date(partitions) else 1,
        exclusions=[datetime(day.year, day.month, day.day) for day in without],
    )


def _begins_before_its_date(partitions: Partitioning) -> bool:
    """Whether partitions begin on the evening before their dates, as sessions of futures do: then tomorrow's is one,
    too.
    """
    known = partitions.between(partitions.first, partitions.first + timedelta(days=7))
    midnights = {day: datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(partitions.zone)) for day in known}
    return any(partitions.day_at(midnight - timedelta(minutes=1)) == day for day, midnight in midnights.items())


def _days_left_out(partitions: Partitioning) -> tuple[list[int], list[date]]:
    """Returns the weekdays (0 is Sunday) with partitions, and the days on these weekdays without one. Both are empty if
    every day is a partition.
    """
    last = partitions.last
    if last is None:
        return [], []
    known = set(partitions.between(partitions.first, last))
    weekdays = sorted({day.isoweekday() % 7 for day in known})
    every_day = (partitions.first + timedelta(days=number) for number in range((last - partitions.first).days + 1))
    return weekdays, [day for day in every_day if day.isoweekday() % 7 in weekdays and day not in known]
