"""The component behind a source's `defs.yaml`: it makes the source's assets, checks, jobs and automation. Each kind of
source is a subclass with its own model and `resolve`.
"""

import operator
from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import ClassVar

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from lakehouse.components.checks import table_checks
from lakehouse.components.described import DescribedComponent
from lakehouse.components.sources.assets import Shown, source_assets
from lakehouse.components.sources.extent import shown_extent
from lakehouse.components.sources.partitions import time_windows
from lakehouse.components.sources.run_tags import PARTITION_TAG, RELOAD_TAG, tagged_partitions
from lakehouse.components.sources.sensor import source_sensor
from lakehouse.components.sources.subjects_sensor import asks_of_lake, subjects_sensor
from lakehouse.derive.source import Source
from lakehouse.ingest.partitioning import today
from lakehouse.warehouse.parts import parts


class SourceComponent(DescribedComponent):
    """A source: its raw and derived tables, partitioned like its datasets; their checks; a job that updates everything
    up to the published marts, and one that reloads objects read with outdated settings; and the update job's trigger:
    a sensor for new and changed objects, or a schedule.
    """

    shown: ClassVar[Shown] = Shown()

    @abstractmethod
    def resolve(self) -> Source:
        """Resolves the source with the current settings, which may change after the definitions were loaded."""

    def further_assets(self, partitions: dg.TimeWindowPartitionsDefinition | None) -> list[dg.AssetsDefinition]:
        """Assets that only this kind of source has."""
        return []

    def schedules(self, source: Source, job: str) -> Sequence[dg.ScheduleDefinition]:
        """The schedules that run the job."""
        return [_by_cron(source, job, source.cron)] if source.cron else []

    def apart(
        self, source: Source, everything: dg.AssetSelection, partitions: dg.TimeWindowPartitionsDefinition | None
    ) -> tuple[list[UnresolvedAssetJobDefinition], list[dg.ScheduleDefinition]]:
        """The jobs and schedules of a source with datasets that are updated at times of their own: a job for each of
        them and what follows from it, and one for all the rest.
        """
        raw = {
            name: dg.AssetSelection.assets([source.name, source.dataset(name).contract.table]) for name in source.crons
        }
        parts: dict[str, tuple[str, dg.AssetSelection]] = {
            name: (cron, raw[name].downstream() & everything) for name, cron in source.crons.items()
        }
        if source.cron:
            parts["rest"] = source.cron, reduce(operator.sub, raw.values(), everything)
        jobs = [
            dg.define_asset_job(
                f"{source.name}_{name}_update",
                selection=selection,
                description=f"Updates {name} of {source.name}, at times of its own, up to the published marts.",
                partitions_def=partitions,
            )
            for name, (_, selection) in parts.items()
        ]
        return jobs, [
            _by_cron(source, job.name, cron, "" if name == "rest" else f"_{name}")
            for job, (name, (cron, _)) in zip(jobs, parts.items(), strict=True)
        ]

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        source = self.resolve()
        partitions = time_windows(source.stepwise[0].partitioning, shown_extent(source)) if source.stepwise else None
        marts = [part.group for part in parts() if source.kind in part.kinds]
        everything = dg.AssetSelection.groups(source.name, *marts)
        job = dg.define_asset_job(
            f"{source.name}_update",
            selection=everything,
            description=f"Loads what is new at {source.name} and updates everything up to the published marts.",
            partitions_def=partitions,
        )
        reload = dg.define_asset_job(
            f"{source.name}_reload",
            selection=everything,
            description=f"Reloads the objects of {source.name} that were read with other settings, as a new revision.",
            partitions_def=partitions,
            tags={RELOAD_TAG: "true"},
        )
        jobs, schedules = self.apart(source, everything, partitions) if source.crons else ([], [])
        is_delivered = any(not dataset.is_asked for dataset in source.stepwise or source.datasets)
        return dg.Definitions(
            assets=[*source_assets(self.resolve, partitions, self.shown), *self.further_assets(partitions)],
            asset_checks=[
                table_checks(
                    self.resolve,
                    self.config.model_dump_json(),
                    table,
                    lambda tags, lake: tagged_partitions(tags, lake, self.resolve(), partitions),
                )
                for table in dict.fromkeys(check.table for check in source.checks)
            ],
            jobs=[job, reload, *jobs],
            sensors=[
                *([source_sensor(self.resolve, partitions, job.name)] if is_delivered else []),
                *([subjects_sensor(self.resolve, job.name)] if asks_of_lake(source) else []),
            ],
            schedules=schedules or self.schedules(source, job.name),
        )


def _by_cron(source: Source, job: str, cron: str, about: str = "") -> dg.ScheduleDefinition:
    """A schedule that runs the job over the current partition at the times of `cron`."""
    partitioning = source.datasets[0].partitioning

    @dg.schedule(
        name=f"{source.name}{about}_cron",
        job_name=job,
        cron_schedule=cron,
        execution_timezone=partitioning.zone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Runs {job} at set times.",
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
