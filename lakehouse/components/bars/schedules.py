"""The schedules of an API source: fetch each session after its close, and fetch earlier months again, since vendors
make corrections without notice. Sources of objects have a sensor instead (see `sensor`).
"""

from collections.abc import Callable
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from lakehouse.components.sources.run_tags import range_tags
from lakehouse.domains.market.bars.config import Updates
from lakehouse.domains.market.bars.source import BarSource


def update_schedules(resolve: Callable[[], BarSource], job_name: str) -> list[dg.ScheduleDefinition]:
    """The source's two schedules; empty if its YAML has no `updates`. `resolve` as for `source_sensor`."""
    source = resolve()
    if source.config.updates is None:
        return []
    updates, calendar = source.config.updates, source.calendar
    hour, minute = (int(part) for part in updates.after_close.split(":"))

    def requested(first: date, last: date, what: str) -> dg.RunRequest | dg.SkipReason:
        if lacking := next(filter(None, (dataset.lacks for dataset in resolve().datasets)), None):
            return dg.SkipReason(lacking)
        sessions = calendar.between(first, last)
        if not sessions:
            return dg.SkipReason(f"{source.config.calendar.code} has no session from {first} to {last}")
        return dg.RunRequest(run_key=f"{what}-{first}-{last}", tags=range_tags(sessions[0], sessions[-1]))

    def on_the_venues_clock(context: dg.ScheduleEvaluationContext) -> date:
        # An American evening is already the next day in UTC.
        return context.scheduled_execution_time.astimezone(ZoneInfo(source.config.venue.time_zone)).date()

    @dg.schedule(
        name=f"{source.name}_after_close",
        job_name=job_name,
        cron_schedule=f"{minute} {hour} * * *",
        execution_timezone=source.config.venue.time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Fetches each session after its close.",
    )
    def after_close(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        today = on_the_venues_clock(context)
        return requested(today, today, "after-close")

    @dg.schedule(
        name=f"{source.name}_sweep",
        job_name=job_name,
        cron_schedule=f"{minute} {(hour + 2) % 24} {updates.sweep_day} * *",
        execution_timezone=source.config.venue.time_zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Fetches the {updates.sweep_months} months before the current one again, for corrections.",
    )
    def sweep(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        first, last = swept(on_the_venues_clock(context), updates)
        return requested(first, last, "sweep")

    return [after_close, sweep]


def swept(today: date, updates: Updates) -> tuple[date, date]:
    """The first and the last day of the months that a sweep on `today` fetches again."""
    last = today.replace(day=1) - timedelta(days=1)
    first = last.replace(day=1)
    for _ in range(updates.sweep_months - 1):
        first = (first - timedelta(days=1)).replace(day=1)
    return first, last
