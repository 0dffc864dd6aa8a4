"""The component behind a source's `defs.yaml`: a source is a YAML file, and this makes its assets, checks, jobs, and
what runs them by itself. A kind of source is a subclass that names its model and how that is resolved.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import dagster as dg
from pydantic import BaseModel

from lakehouse.components.checks import table_checks
from lakehouse.components.sources.assets import Shown, source_assets
from lakehouse.components.sources.partitions import time_windows
from lakehouse.components.sources.run_tags import PARTITION_TAG, RELOAD_TAG, tagged_partitions
from lakehouse.components.sources.sensor import source_sensor
from lakehouse.derive.source import Source
from lakehouse.ingest.partitioning import today
from lakehouse.ingest.strict import Description
from lakehouse.warehouse.parts import parts


class SourceComponent(dg.Component):
    """A source: its datasets' raw tables and what is made of them, partitioned as the datasets are; their checks; the
    job that updates them through to the published marts, and the one that reads again what was read by other settings;
    and what starts it: a sensor over new and changed objects, or a schedule.
    """

    model: ClassVar[type[Description]]
    shown: ClassVar[Shown] = Shown()

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return cls.model

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        assert isinstance(attributes, cls.model)
        return cls(attributes)

    @abstractmethod
    def resolve(self) -> Source:
        """The source by the settings as they are now: definitions outlive a change of them."""

    def further_assets(self, partitions: dg.TimeWindowPartitionsDefinition | None) -> list[dg.AssetsDefinition]:
        """Assets that other sources don't have."""
        return []

    def schedules(self, source: Source, job: str) -> Sequence[dg.ScheduleDefinition]:
        """What runs the job at set times."""
        return [_by_cron(source, job)] if source.cron else []

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        source = self.resolve()
        partitions = time_windows(source.stepwise[0].partitioning) if source.stepwise else None
        marts = [part.group for part in parts() if part.schema == source.kind]
        everything = dg.AssetSelection.groups(source.name, *marts)
        job = dg.define_asset_job(
            f"{source.name}_update",
            selection=everything,
            description=f"News of {source.name} through to the published marts.",
            partitions_def=partitions,
        )
        reload = dg.define_asset_job(
            f"{source.name}_reload",
            selection=everything,
            description=f"Objects of {source.name} that were read by other settings, read again as a new revision.",
            partitions_def=partitions,
            tags={RELOAD_TAG: "true"},
        )
        is_delivered = any(not dataset.is_asked for dataset in source.stepwise or source.datasets)
        return dg.Definitions(
            assets=[*source_assets(self.resolve, partitions, self.shown), *self.further_assets(partitions)],
            asset_checks=[
                table_checks(self.resolve, table, lambda tags: tagged_partitions(tags, self.resolve(), partitions))
                for table in dict.fromkeys(check.table for check in source.checks)
            ],
            jobs=[job, reload],
            sensors=[source_sensor(self.resolve, partitions, job.name)] if is_delivered else [],
            schedules=self.schedules(source, job.name),
        )


def _by_cron(source: Source, job: str) -> dg.ScheduleDefinition:
    """Runs the job at the times that the source's description names, over the partition under way."""
    partitioning = source.datasets[0].partitioning

    @dg.schedule(
        name=f"{source.name}_cron",
        job_name=job,
        cron_schedule=str(source.cron),
        execution_timezone=partitioning.zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Updates {source.name} at set times.",
    )
    def at_set_times(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        moment = context.scheduled_execution_time
        if not source.stepwise:
            return dg.RunRequest(run_key=moment.isoformat())
        day = today(partitioning, moment)
        partition = partitioning.of(day)
        if partition is None:
            return dg.SkipReason(f"{day}: {partitioning.without}")
        return dg.RunRequest(run_key=moment.isoformat(), tags={PARTITION_TAG: partition.isoformat()})

    return at_set_times
