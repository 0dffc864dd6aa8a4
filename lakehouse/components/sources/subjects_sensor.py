"""The sensor of a source whose API is asked about what the lake's tables have: it requests a run that asks about the
subjects which are new.

It keeps no list: new is what the ledger has no entry of. While a run of the source is in progress, none is requested,
and none twice for the same subjects; answers that failed are asked again by the source's schedule.
"""

import hashlib
from collections.abc import Callable

import dagster as dg
import polars as pl

from lakehouse.components.resources import LakeResource
from lakehouse.components.sources.run_tags import ONLY_NEW_TAG
from lakehouse.components.sources.sensor import SOURCE_TAG, runs_in_progress
from lakehouse.derive.source import Source
from lakehouse.ingest.dataset import ApiOrigin
from lakehouse.ingest.ledger import ledger_of
from lakehouse.lake.lake import Lake


def asks_of_lake(source: Source) -> bool:
    """Whether an API of the source is asked about what the lake's tables have."""
    return any(isinstance(each.origin, ApiOrigin) and each.origin.requests.stored for each in source.datasets)


def subjects_sensor(resolve: Callable[[], Source], job_name: str) -> dg.SensorDefinition:
    """The sensor of one source; it requests runs of `job_name`."""
    name = resolve().name

    @dg.sensor(
        name=f"{name}_subjects",
        job_name=job_name,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Runs {job_name} on subjects of the lake that {name} was never asked about.",
    )
    def new_subjects(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.RunRequest | dg.SkipReason:
        source, opened = resolve(), lake.open()
        if lacking := next(filter(None, (dataset.lacks for dataset in source.datasets)), None):
            return dg.SkipReason(lacking)
        new = _never_asked(opened, source)
        if not new:
            return dg.SkipReason("no new subjects")
        if busy := runs_in_progress(context.instance, source):
            return dg.SkipReason(f"{len(new):,} subjects wait for run {busy[0].run_id}, which is loading {source.name}")
        digest = hashlib.sha256("\n".join(new).encode()).hexdigest()[:16]
        tags = {SOURCE_TAG: source.name, ONLY_NEW_TAG: "true"}
        return dg.RunRequest(run_key=f"{source.name}-subjects-{digest}", tags=tags)

    return new_subjects


def _never_asked(lake: Lake, source: Source) -> list[str]:
    """The questions that the ledger has no entry of, by their objects' names."""
    asked = ledger_of(lake, source.name).select(pl.col("object").unique()).collect()["object"].to_list()
    origins = [dataset.origin for dataset in source.datasets if isinstance(dataset.origin, ApiOrigin)]
    names = {each.name for origin in origins for each in origin.requests.questions(lake, [])}
    return sorted(names - {*asked})
