"""The automation of a feed in Dagster: a sensor that requests polling runs (an alternative to `lakehouse stream`), a
schedule that closes each day, and one that compacts the current day's files.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from lakehouse.api import Lake
from lakehouse.components.sources.run_tags import PARTITION_TAG
from lakehouse.components.sources.sensor import IN_PROGRESS
from lakehouse.domains.market.quotes.feed import QUOTES, Feed


def feed_sensor(resolve: Callable[[], Feed], job_name: str) -> dg.SensorDefinition:
    """Requests a run of polling rounds whenever none is in progress. Off by default, since it would poll the vendor
    twice if the service runs too. `resolve` makes the feed from the settings at each tick.
    """
    feed = resolve()

    @dg.sensor(
        name=f"{feed.name}_poll",
        job_name=job_name,
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Polls {feed.name} in one-minute runs. Turn it on only if `lakehouse stream` is not running.",
    )
    def poll(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if lacking := resolve().endpoint.lacks_key:
            return dg.SkipReason(lacking)
        under_way = dg.RunsFilter(job_name=job_name, statuses=IN_PROGRESS)
        if context.instance.get_runs(under_way, limit=1):
            return dg.SkipReason("a run of rounds is under way")
        return dg.RunRequest(tags={PARTITION_TAG: datetime.now(UTC).date().isoformat()})

    return poll


def feed_schedules(feed: Feed, day_job: str, hour_job: str) -> list[dg.ScheduleDefinition]:
    """Daily, after the day has ended: derive its windows and compact its files; the marts follow by their automation
    condition. Hourly: compact the current day.
    """

    close_day = _schedule(
        feed,
        job_name=day_job,
        name=f"{feed.name}_close_day",
        cron="30 0 * * *",
        description="Closes the previous day: derives its windows and compacts its files.",
        day_at=lambda moment: moment.date() - timedelta(days=1),
        request=lambda day: dg.RunRequest(run_key=str(day), tags={PARTITION_TAG: day.isoformat()}),
    )
    compact = _schedule(
        feed,
        job_name=hour_job,
        name=f"{feed.name}_compact",
        cron="5 * * * *",
        description="Compacts the current day's files.",
        day_at=datetime.date,
        request=lambda day: dg.RunRequest(),
    )
    return [close_day, compact]


def _schedule(
    feed: Feed,
    *,
    job_name: str,
    name: str,
    cron: str,
    description: str,
    day_at: Callable[[datetime], date],
    request: Callable[[date], dg.RunRequest],
) -> dg.ScheduleDefinition:
    """A schedule that requests a run for a day (UTC) if the feed has quotes of that day."""

    @dg.schedule(
        name=name,
        job_name=job_name,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    def about_day(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        day = day_at(context.scheduled_execution_time.astimezone(UTC))
        stored = Lake.present().table(feed.table(QUOTES)).snapshot().partition_values("day")
        return request(day) if str(day) in stored else dg.SkipReason(f"{feed.name} has no quotes of {day}")

    return about_day
