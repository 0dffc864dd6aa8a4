"""The assets of a bar source: raw_bars -> bars -> daily_bars -> daily_report, partitioned by session, a range
in one run.
"""

import time
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import Any

import dagster as dg

from lakehouse.components.asset_specs import declared, stored
from lakehouse.components.bars.figures import session_pictures
from lakehouse.components.bars.run_tags import RELOAD_TAG, asset_sessions, touched_sessions
from lakehouse.components.metadata import partition_metadata, stored_metadata
from lakehouse.components.resources import LakeResource
from lakehouse.components.retries import (
    loaded_metadata,
    refused_metadata,
    report_shared_tables,
    transient_faults_retried,
)
from lakehouse.derive.conservation import conservation_totals
from lakehouse.derive.incremental import Derived
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.bars.derive import derive_bars, derive_daily_bars
from lakehouse.domains.market.bars.report import export_report
from lakehouse.ingest.dataset import Bars
from lakehouse.ingest.load import load
from lakehouse.lake import Lake
from lakehouse.progress import progress


def bar_assets(config: SourceConfig, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The assets of one source; each is a thin step around `ingest`, `derive` and `domains.market`."""
    partitioned: dict[str, Any] = {"partitions_def": partitions, "backfill_policy": dg.BackfillPolicy.single_run()}
    fresh_enough = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=5), warn_window=timedelta(days=4))

    @dg.asset(
        **declared(
            config,
            "raw_bars",
            f"{config.description}, as received: every revision of every bar, append-only.",
            [],
            {"deltalake", "polars"},
        ),
        **partitioned,
        **stored(config, "raw_bars"),
    )
    def raw_bars(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        sessions, started, opened = asset_sessions(context), time.monotonic(), lake.open()
        with transient_faults_retried(context):
            result = load(
                opened,
                config,
                config.bars,
                sessions,
                run_id=context.run_id,
                reread=RELOAD_TAG in context.run.tags,
                progress=progress(context.log.debug),
            )
        table = config.table("raw_bars")
        report_shared_tables(context, opened, result)
        metadata = loaded_metadata(context, result) | refused_metadata(opened, config, Bars, sessions)
        metadata |= stored_metadata(opened, table, sessions, time.monotonic() - started)
        reported = partition_metadata(opened, table, sorted({*sessions, *result.parts}))
        return _partitions_reported(context, sessions, reported, metadata)

    @dg.asset(
        **declared(
            config,
            "bars",
            "The winning revision of each bar, duplicates and superseded revisions gone.",
            ["raw_bars"],
            {"deltalake", "duckdb"},
        ),
        **partitioned,
        **stored(config, "bars"),
    )
    def bars(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        return _derived(context, lake.open(), config, "bars", derive_bars)

    @dg.asset(
        **declared(
            config,
            "daily_bars",
            "One row an instrument, currency and session, from the traded bars of the regular segment.",
            ["bars"],
            {"deltalake", "duckdb"},
        ),
        **partitioned,
        **stored(config, "daily_bars"),
        freshness_policy=fresh_enough,
    )
    def daily_bars(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        return _derived(context, lake.open(), config, "daily_bars", derive_daily_bars)

    assets = [raw_bars, bars, daily_bars]
    if config.report is not None:
        report = config.report

        @dg.asset(
            **declared(
                config,
                "daily_report",
                "The daily report: one object a session for other systems, in their column names.",
                ["daily_bars"],
                {report.format},
            ),
            **partitioned,
        )
        def daily_report(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
            with transient_faults_retried(context):
                result = export_report(lake.open(), config, asset_sessions(context))
            return dg.MaterializeResult(
                metadata={
                    "target": result.url,
                    "objects_written": len(result.written),
                    "objects_unchanged": result.unchanged,
                    "dagster/row_count": result.rows,
                }
            )

        assets.append(daily_report)
    return assets


def _derived(
    context: dg.AssetExecutionContext, lake: Lake, config: SourceConfig, table: str, derive: Callable[..., Derived]
) -> dg.MaterializeResult:
    own, touched, started = asset_sessions(context), touched_sessions(context, config), time.monotonic()
    with transient_faults_retried(context):
        result = derive(lake, config, touched, progress=progress(context.log.debug))
    metadata = stored_metadata(lake, config.table(table), own, time.monotonic() - started)
    metadata |= {"rows_changed_by_run": result.rows_changed, "sessions_changed": len(result.changed)}
    metadata |= _counts(lake, config, own) if table == "bars" else session_pictures(lake, config, own)
    reported = partition_metadata(lake, config.table(table), sorted({*own, *result.changed}))
    for session, facts in reported.items():
        facts["rows_changed"] = result.changed_by_session.get(session, 0)
    return _partitions_reported(context, own, reported, metadata)


def _counts(lake: Lake, config: SourceConfig, sessions: list[date]) -> dict[str, Any]:
    """The conservation law's counts over the run's sessions."""
    totals = conservation_totals(lake, config.source, sessions)
    return {f"rows_{name}": count for name, count in totals.items()}


def _partitions_reported(
    context: dg.AssetExecutionContext,
    sessions: list[date],
    reported: Mapping[date, dict[str, Any]],
    metadata: dict[str, Any],
) -> dg.MaterializeResult:
    """Tells Dagster what each of the run's partitions holds, and of the last one what the run did (`metadata`): that of
    a MaterializeResult would be stored with every partition, pictures too, which made 28 MB of a quarter. Other
    sessions that got news, as they came in the same objects or follow a corrected one, are `reported` as well.
    """
    for session, facts in reported.items():
        if session not in sessions:
            context.log_event(dg.AssetMaterialization(context.asset_key, partition=str(session), metadata=facts))
        else:
            of_run = metadata if session == sessions[-1] else {}
            context.add_asset_metadata(facts | of_run, partition_key=session.isoformat())
    return dg.MaterializeResult()
