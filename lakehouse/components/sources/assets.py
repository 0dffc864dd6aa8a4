"""The assets of a source: each dataset's raw table and the tables derived from it. Tables derived by partition are
partitioned assets, with a range per run; the others process their whole history.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from lakehouse.components.asset_specs import declared, stored
from lakehouse.components.metadata import partition_metadata, stored_metadata
from lakehouse.components.resources import LakeResource
from lakehouse.components.retries import (
    loaded_metadata,
    refused_metadata,
    report_shared_tables,
    transient_faults_retried,
)
from lakehouse.components.sources.extent import note_extent
from lakehouse.components.sources.run_tags import ONLY_NEW_TAG, RELOAD_TAG, asset_partitions
from lakehouse.derive.source import DerivedTable, Source
from lakehouse.ingest.load import load
from lakehouse.lake.lake import Lake
from lakehouse.progress import progress

Resolve = Callable[[], Source]
"""Makes the source from the current settings, which may change after the definitions were loaded."""
Pictures = Callable[[Lake, Any, Sequence[date]], dict[str, Any]]
"""Draws figures of a run's partitions of a table, as Dagster metadata."""


@dataclass(frozen=True)
class Shown:
    """What a kind of source adds to its tables' pages, by table name."""

    figures: Mapping[str, Pictures] = field(default_factory=dict)
    freshness: Mapping[str, dg.FreshnessPolicy] = field(default_factory=dict)


def partitioned(partitions: dg.PartitionsDefinition | None) -> dict[str, Any]:
    """The arguments of `dagster.asset` for a table that is derived by partition."""
    if partitions is None:
        return {}
    return {"partitions_def": partitions, "backfill_policy": dg.BackfillPolicy.single_run()}


def source_assets(
    resolve: Resolve, partitions: dg.PartitionsDefinition | None, shown: Shown
) -> list[dg.AssetsDefinition]:
    """The assets of a source; each is a thin step around `ingest` and `derive`."""
    source = resolve()

    def of(table: str) -> dg.PartitionsDefinition | None:
        return None if source.is_whole(table) else partitions

    raw = [_raw_asset(resolve, dataset.name, of(dataset.contract.table)) for dataset in source.datasets]
    return raw + [_derived_asset(resolve, table, of(table.name), shown) for table in source.tables]


def _raw_asset(resolve: Resolve, name: str, partitions: dg.PartitionsDefinition | None) -> dg.AssetsDefinition:
    source = resolve()
    dataset = source.dataset(name)
    table = dataset.contract.table
    description = f"{dataset.description}, as received, append-only."

    @dg.asset(
        **declared(source, table, description, [], {"deltalake", "polars"}),
        **partitioned(partitions),
        **stored(source, table),
    )
    def raw(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        started, opened, present = time.monotonic(), lake.open(), resolve()
        wanted = [] if partitions is None else asset_partitions(context)
        about = None if partitions is None else wanted
        loading = present.dataset(name)
        with transient_faults_retried(context):
            result = load(
                opened,
                loading,
                wanted,
                run_id=context.run_id,
                reread=RELOAD_TAG in context.run.tags,
                only_new=ONLY_NEW_TAG in context.run.tags,
                progress=progress(context.log.debug),
            )
        report_shared_tables(context, opened, result)
        metadata = loaded_metadata(context, result) | refused_metadata(opened, loading, about)
        metadata |= stored_metadata(opened, loading.table, about, time.monotonic() - started, context.run_id)
        if partitions is None:
            return dg.MaterializeResult(metadata=metadata)
        note_extent(opened, present)
        span = present.span_of(table)
        reported = partition_metadata(opened, loading.table, sorted({*wanted, *result.parts}), span)
        return _partitions_reported(context, wanted, reported, metadata)

    return raw


def _derived_asset(
    resolve: Resolve, table: DerivedTable, partitions: dg.PartitionsDefinition | None, shown: Shown
) -> dg.AssetsDefinition:
    source, name = resolve(), table.name

    @dg.asset(
        **declared(source, name, table.description, list(table.depends_on), {"deltalake", "duckdb"}),
        **partitioned(partitions),
        **stored(source, name),
        freshness_policy=shown.freshness.get(name),
    )
    def derived(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        started, opened, present = time.monotonic(), lake.open(), resolve()
        path = present.table(name)
        own = [] if partitions is None else asset_partitions(context)
        with transient_faults_retried(context):
            result = table.derive(opened, present, present.together(opened, own), progress=progress(context.log.debug))
        if partitions is None:
            metadata = stored_metadata(opened, path, None, time.monotonic() - started, context.run_id)
            counts = {"dagster/row_count": result.rows, "rows_written": result.rows_changed}
            return dg.MaterializeResult(metadata=metadata | counts)
        metadata = stored_metadata(opened, path, own, time.monotonic() - started, context.run_id)
        metadata |= {"rows_changed_by_run": result.rows_changed, "sessions_changed": len(result.changed)}
        if result.changed and name in shown.figures:
            metadata |= shown.figures[name](opened, present, own)
        reported = partition_metadata(opened, path, sorted({*own, *result.changed}), present.span_of(name))
        for partition, facts in reported.items():
            facts["rows_changed"] = result.changed_by_partition.get(partition, 0)
        return _partitions_reported(context, own, reported, metadata)

    return derived


def _partitions_reported(
    context: dg.AssetExecutionContext,
    partitions: list[date],
    reported: Mapping[date, dict[str, Any]],
    metadata: dict[str, Any],
) -> dg.MaterializeResult:
    """Reports to Dagster what each of the run's partitions holds. The run's `metadata` goes to the last partition only:
    that of a MaterializeResult would be stored with every partition, figures included (28 MB for a quarter). Other
    partitions that changed, since they share objects or follow a corrected one, are `reported` as well.
    """
    for partition, facts in reported.items():
        if partition not in partitions:
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=str(partition), metadata=facts))
        else:
            of_run = metadata if partition == partitions[-1] else {}
            context.add_asset_metadata(facts | of_run, partition_key=partition.isoformat())
    return dg.MaterializeResult()
