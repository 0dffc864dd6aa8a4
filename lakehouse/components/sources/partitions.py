"""A source's partitions for Dagster. They are a time window definition, not a list of names, so that ranges, the
backfill page and partition mappings treat them as days (or months, or years), and tomorrow's needs no reload.

A cron schedule and exclusions leave out days without a partition, such as weekends and an exchange's holidays. Today is
a partition, since objects arrive during the day; so is tomorrow, where partitions begin on the evening before.

The pages may show fewer partitions than runs accept (see `lakehouse.components.sources.extent`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context

from lakehouse.components.sources.extent import EVERYTHING, Extent
from lakehouse.ingest.partitioning import Partitioning, Periods, start_of

if TYPE_CHECKING:
    from dagster._core.instance import DynamicPartitionsStore

_CRON = {"month": "0 0 1 * *", "year": "0 0 1 1 *"}


class TimeWindows(dg.TimeWindowPartitionsDefinition):
    """Dagster's definition, which remembers its keys: Dagster walks over all days for each asset without partitions
    that is made from one with them, several times in a run.

    `start` and `end`, limited by `shown`, are what Dagster's pages and daemon are told; `start_ts` and `end_ts` count
    for runs. So a backfill, or an object that arrives late, may be about a partition before those that are shown,
    without a reload of the definitions.
    """

    shown: tuple[datetime | None, datetime | None] = (None, None)

    @cached_property
    def start(self) -> datetime:
        """Where the partitions begin that are shown."""
        own, first = super().start, self.shown[0]
        return own if first is None else max(own, first)

    @cached_property
    def end(self) -> datetime | None:
        """Where the partitions end that are shown; None: with the present one."""
        last = self.shown[1]
        return super().end if last is None else max(self.start, last)

    @cached_property
    def _keys_to(self) -> dict[str, tuple[str, ...]]:
        """The last answer, by its last key, which alone depends on the time."""
        return {}

    def get_partition_keys(
        self,
        current_time: datetime | None = None,
        dynamic_partitions_store: DynamicPartitionsStore | None = None,
    ) -> Sequence[str]:
        """The keys of the partitions up to the last that has begun, with those that begin next."""
        with partition_loading_context(current_time, dynamic_partitions_store):
            last = self.get_last_partition_key()
            if last is None:
                return []
            if last not in self._keys_to:
                keys = super().get_partition_keys()
                self._keys_to.clear()
                self._keys_to[last] = tuple(keys)
            return list(self._keys_to[last])


def time_windows(partitions: Partitioning, extent: Extent = EVERYTHING) -> dg.TimeWindowPartitionsDefinition:
    """Makes Dagster's definition, of which the pages show the partitions in `extent`; a key is an ISO date."""
    weekdays, without = _days_left_out(partitions)
    made = TimeWindows(
        start=partitions.first.isoformat(),
        fmt="%Y-%m-%d",
        cron_schedule=_CRON.get(partitions.unit) or f"0 0 * * {','.join(map(str, weekdays)) or '*'}",
        timezone=partitions.zone,
        end_offset=2 if _begins_before_its_date(partitions) else 1,
        exclusions=[datetime(day.year, day.month, day.day) for day in without],
    )
    made.shown = (
        None if extent.first is None else _begin(partitions, extent.first),
        None if extent.last is None else Periods(partitions.unit, extent.last, partitions.zone).over_at(extent.last),
    )
    return made


def _begin(partitions: Partitioning, day: date) -> datetime:
    start = start_of(partitions.unit, day)
    return datetime(start.year, start.month, start.day, tzinfo=ZoneInfo(partitions.zone))


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
