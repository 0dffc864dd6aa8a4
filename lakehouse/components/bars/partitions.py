"""Partitions: the sessions of an exchange calendar. Weekends and holidays are none; today is one, since objects
come during the session.

Dagster knows them as a time window definition (the calendar's weekdays by a cron schedule, its holidays as
exclusions) rather than as a list of names, so that ranges, the backfill page and partition mappings understand
that they are days, and tomorrow's session needs no reload.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg

from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.calendar import SessionCalendar


def session_partitions(config: SourceConfig, calendar: SessionCalendar) -> dg.TimeWindowPartitionsDefinition:
    """The partitions of a source: a partition key is the session's ISO date."""
    sessions = set(calendar.sessions)
    weekdays = sorted({session.isoweekday() % 7 for session in sessions})
    days = ((calendar.sessions[-1]) - config.first_session).days + 1
    every_day = (config.first_session + timedelta(days=number) for number in range(days))
    holidays = [day for day in every_day if day.isoweekday() % 7 in weekdays and day not in sessions]
    return dg.TimeWindowPartitionsDefinition(
        start=config.first_session.isoformat(),
        fmt="%Y-%m-%d",
        cron_schedule=f"0 0 * * {','.join(map(str, weekdays))}",
        timezone=config.venue.time_zone,
        end_offset=1,
        exclusions=[datetime(day.year, day.month, day.day) for day in holidays],
    )
