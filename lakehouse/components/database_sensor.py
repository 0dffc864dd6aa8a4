"""The sensor of a captured database: requests a run where the log has changes that the lake doesn't have."""

import time
from collections.abc import Callable

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from lakehouse.api import Lake
from lakehouse.components.sources.run_tags import PARTITION_TAG
from lakehouse.derive.captured import CapturedSource
from lakehouse.errors import DatabaseUnavailable, SourceError
from lakehouse.ingest.postgres.capture import has_news
from lakehouse.servers.postgres import is_used

_INTERVAL_S = 30
_RETRY_S = 600
"""A run that failed is requested again after so long."""


def capture_sensor(resolve: Callable[[], CapturedSource], job: str) -> dg.SensorDefinition:
    """The sensor that requests the job of a source."""
    source = resolve()

    @dg.sensor(
        name=f"{source.name}_capture_sensor",
        job_name=job,
        minimum_interval_seconds=_INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks for changes in the database of {source.name}.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        present = resolve()
        if not is_used(present.place):
            return dg.SkipReason("Nothing uses the embedded database, so nothing changes in it")
        running = dg.RunsFilter(job_name=job, statuses=IN_PROGRESS_RUN_STATUSES)
        if context.instance.get_runs_count(running):
            return dg.SkipReason("A capture is in progress")
        try:
            news = has_news(Lake.present(), present.of)
        except (DatabaseUnavailable, SourceError) as error:
            return dg.SkipReason(str(error))
        if news is None:
            return dg.SkipReason("Nothing is new")
        (day,) = present.present
        key = f"{news}-{int(time.time() // _RETRY_S)}"
        return dg.RunRequest(run_key=key, tags={PARTITION_TAG: str(day)})

    return look
