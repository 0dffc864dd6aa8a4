"""The component behind a captured database's `defs.yaml`: its tables as assets, their checks, a job and its sensor."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, ClassVar

import dagster as dg

from lakehouse.api import Lake
from lakehouse.components.asset_specs import declared, stored
from lakehouse.components.checks import table_checks
from lakehouse.components.database_sensor import capture_sensor
from lakehouse.components.described import DescribedComponent
from lakehouse.components.metadata import stored_metadata
from lakehouse.components.resources import LakeResource
from lakehouse.components.retries import transient_faults_retried
from lakehouse.components.sources.assets import partitioned
from lakehouse.components.sources.extent import note_extent, shown_extent
from lakehouse.components.sources.partitions import time_windows
from lakehouse.components.sources.run_tags import asset_partitions, tagged_days
from lakehouse.derive.captured import CapturedSource
from lakehouse.derive.source import DerivedTable
from lakehouse.domains.banking.config import BankConfig
from lakehouse.domains.banking.source import bank_source
from lakehouse.ingest.postgres.capture import capture
from lakehouse.ingest.postgres.captured import LEDGER
from lakehouse.ingest.postgres.config import CaptureConfig
from lakehouse.settings import settings
from lakehouse.warehouse.parts import parts

Resolve = Callable[[], CapturedSource]
_DAY = "day"
"""The column by which a table has partitions in Dagster."""
Picture = Callable[[Lake, CapturedSource], dict[str, Any]]
"""Makes metadata with a picture of a table that changed."""


class CaptureComponent(DescribedComponent):
    """A database whose tables are captured. The tables of changes and those by day are partitioned by day; the current
    tables and others are not. Each kind of database is a subclass with its own model and `resolve`.
    """

    model: ClassVar[type[CaptureConfig]]
    pictures: ClassVar[Mapping[str, Picture]] = {}
    """Current table -> the picture on its asset's page."""

    @abstractmethod
    def resolve(self) -> CapturedSource:
        """Resolves the source with the current settings, which may change after the definitions were loaded."""

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        source, description = self.resolve(), self.config.model_dump_json()
        days = time_windows(source.days, shown_extent(source))
        daily = [table for table in source.tables if _DAY in source.contract(table.name).partition_by]
        whole = [table for table in source.tables if table not in daily]
        marts = [part.group for part in parts() if source.kind in part.kinds]
        job = dg.define_asset_job(
            f"{source.name}_update",
            selection=dg.AssetSelection.groups(source.name, *marts),
            description=f"Captures what is new in {source.name} and updates everything up to the published marts.",
            partitions_def=days,
        )
        return dg.Definitions(
            assets=[
                _changes_asset(self.resolve, days),
                _current_asset(self.resolve, whole, self.pictures),
                *(_daily_asset(self.resolve, table, days) for table in daily),
            ],
            asset_checks=[
                table_checks(
                    self.resolve,
                    description,
                    table,
                    lambda tags, _: tagged_days(tags, days),
                    # Conservation counts the current rows, which follow from what was captured.
                    after=[each.name for each in source.of.tables] if table == LEDGER else (),
                )
                for table in dict.fromkeys(check.table for check in source.checks)
            ],
            jobs=[job],
            sensors=[capture_sensor(self.resolve, job.name)],
        )


class DatabaseCapture(CaptureComponent):
    """A bank's database: its tables by its log, and daily balances.

    The attributes are those of `lakehouse.domains.banking.config.BankConfig`.
    """

    model = BankConfig
    config: BankConfig

    def resolve(self) -> CapturedSource:
        return bank_source(self.config, settings())


def _changes_asset(resolve: Resolve, days: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    """The capture. Any day's run captures all that is new: a log isn't asked for a day."""
    source = resolve()
    described = {table.changes: f"Changes of {table.name}, append-only." for table in source.of.tables}
    described[LEDGER] = "The batches in which the database was captured."

    @dg.multi_asset(
        name=f"{source.name}_capture",
        specs=[
            dg.AssetSpec(
                **declared(source, name, description, [], {"deltalake", "postgres"}),
                **stored(source, name),
                partitions_def=days,
            )
            for name, description in described.items()
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def captured(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult]:
        started, opened, present = time.monotonic(), lake.open(), resolve()
        with transient_faults_retried(context):
            result = capture(opened, present.of, run_id=context.run_id)
        for name, reason in result.stopped.items():
            context.log.error(f"{name} has stopped: {reason}")
        note_extent(opened, present)
        facts: dict[str, Any] = {
            "batches": result.batches,
            "transactions": result.transactions,
            "changes": result.changes,
            "quarantined": result.quarantined,
            "position": str(result.position),
            "by_snapshot": result.by_snapshot or "no",
            "lag_bytes": result.lag or 0,
        }
        wanted = asset_partitions(context)
        for name in described:
            _report_days(context, opened, present, name, wanted)
            seconds = time.monotonic() - started
            found = stored_metadata(opened, present.table(name), wanted, seconds, context.run_id)
            yield dg.MaterializeResult(
                asset_key=[present.name, name], metadata=found | (facts if name == LEDGER else {})
            )

    return captured


def _current_asset(
    resolve: Resolve, tables: Sequence[DerivedTable], pictures: Mapping[str, Picture]
) -> dg.AssetsDefinition:
    """The tables without days, such as the current ones, in one step: each takes some milliseconds."""
    source = resolve()

    @dg.multi_asset(
        name=f"{source.name}_current",
        specs=[
            dg.AssetSpec(
                **declared(source, table.name, table.description, list(table.depends_on), {"deltalake", "duckdb"}),
                **stored(source, table.name),
            )
            for table in tables
        ],
        can_subset=True,
    )
    def current(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[dg.MaterializeResult]:
        opened, present = lake.open(), resolve()
        selected = {key.path[-1] for key in context.selected_asset_keys}
        for table in present.tables:
            if table.name in selected:
                started = time.monotonic()
                with transient_faults_retried(context):
                    result = table.derive(opened, present, [])
                seconds = time.monotonic() - started
                found = stored_metadata(opened, present.table(table.name), None, seconds, context.run_id)
                counts = {"dagster/row_count": result.rows, "rows_written": result.rows_changed}
                if result.rows_changed and table.name in pictures:
                    found |= pictures[table.name](opened, present)
                yield dg.MaterializeResult(asset_key=[present.name, table.name], metadata=found | counts)

    return current


def _daily_asset(resolve: Resolve, table: DerivedTable, days: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    """A table by day that is made of current ones."""
    source, name = resolve(), table.name

    @dg.asset(
        **declared(source, name, table.description, list(table.depends_on), {"deltalake", "duckdb"}),
        **stored(source, name),
        **partitioned(days),
    )
    def daily(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        started, opened, present = time.monotonic(), lake.open(), resolve()
        wanted = asset_partitions(context)
        with transient_faults_retried(context):
            result = table.derive(opened, present, wanted)
        _report_days(context, opened, present, name, wanted)
        counts = opened.table(present.table(name)).snapshot().rows_by(_DAY)
        # What is dated back restates days that the run isn't about.
        for day in sorted({str(day) for day in result.changed} - {str(day) for day in wanted}):
            facts = {"dagster/partition_row_count": counts.get(day, 0)}
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=day, metadata=facts))
        found = stored_metadata(opened, present.table(name), wanted, time.monotonic() - started, context.run_id)
        return dg.MaterializeResult(metadata=found | {"days_changed": len(result.changed)})

    return daily


def _report_days(
    context: dg.AssetExecutionContext, lake: Lake, source: CapturedSource, table: str, days: Sequence[date]
) -> None:
    """Reports to Dagster how many rows each of the run's days holds."""
    counts = lake.table(source.table(table)).snapshot().rows_by(_DAY)
    for day in days:
        context.add_asset_metadata(
            {"dagster/partition_row_count": counts.get(str(day), 0)},
            asset_key=[source.name, table],
            partition_key=day.isoformat(),
        )
