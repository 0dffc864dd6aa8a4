"""The assets of a bar source: raw_bars -> bars -> daily_bars -> daily_report, partitioned by session, a range
in one run.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import dagster as dg

from lakehouse.components.metadata import definition_metadata, partition_metadata, records_table, stored_metadata
from lakehouse.components.pictures import session_pictures
from lakehouse.components.resources import LakeResource
from lakehouse.components.sessions import asset_sessions
from lakehouse.lake import Lake
from lakehouse.lake.table import LakeUnavailable
from lakehouse.pipeline.conservation import conservation_totals
from lakehouse.pipeline.derive import Derived, derive_bars, derive_daily_bars
from lakehouse.pipeline.load import load
from lakehouse.pipeline.report import export_report
from lakehouse.progress import progress
from lakehouse.sources.config import BarFileConfig
from lakehouse.sources.objects import SourceUnavailable

_TRIES_AFTER_FAULT = 3
_PAUSE_S = 2.0

CODE_VERSION = "1"
"""Raise it when the meaning of a derivation changes: Dagster then shows the stored tables as out of date."""


@contextmanager
def transient_faults_retried(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Asks Dagster for another try when the source or the lake doesn't answer. Any other error would come
    again, so it fails the run at once.
    """
    try:
        yield
    except (SourceUnavailable, LakeUnavailable) as fault:
        raise dg.RetryRequested(
            max_retries=_TRIES_AFTER_FAULT, seconds_to_wait=_PAUSE_S * 2**context.retry_number
        ) from fault


def bar_assets(config: BarFileConfig, partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The assets of one source; each is a thin step around `lakehouse.pipeline`."""
    lake = Lake.open()

    def declared(table: str, what: str, deps: list[str], kinds: set[str]) -> dict[str, Any]:
        return {
            "key": [config.source, table],
            "deps": [[config.source, dep] for dep in deps],
            "group_name": config.source,
            "kinds": kinds,
            "owners": config.owners,
            "tags": config.tags,
            "code_version": CODE_VERSION,
            "partitions_def": partitions,
            "backfill_policy": dg.BackfillPolicy.single_run(),
            "description": what,
        }

    def stored(table: str) -> dict[str, Any]:
        contract = config.contract(table)
        return {"metadata": definition_metadata(contract, lake, config.table(table))}

    fresh_enough = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=5), warn_window=timedelta(days=4))

    @dg.asset(
        **declared(
            "raw_bars",
            f"{config.description}, as received: every revision of every bar, append-only.",
            [],
            {"deltalake", "polars"},
        ),
        **stored("raw_bars"),
    )
    def raw_bars(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        sessions, started, opened = asset_sessions(context), time.monotonic(), lake.open()
        with transient_faults_retried(context):
            result = load(opened, config, sessions, run_id=context.run_id, progress=progress(context.log.debug))
        for name, error in result.errors.items():
            context.log.error(f"{name}: {error}")
        _report_partitions(context, opened, config.table("raw_bars"), sessions)
        _report_shared_tables(context, opened, result.rows_received, result.rows_quarantined)
        return dg.MaterializeResult(
            metadata={
                "rows_received": result.rows_received,
                "rows_quarantined": result.rows_quarantined,
                **{f"objects_{status}": count for status, count in result.objects.items()},
                "sessions_changed": len(result.sessions),
                **stored_metadata(opened, config.table("raw_bars"), sessions, time.monotonic() - started),
                **(
                    {
                        "errors": dg.MetadataValue.md(
                            records_table([{"object": name, "error": error} for name, error in result.errors.items()])
                        )
                    }
                    if result.errors
                    else {}
                ),
            }
        )

    @dg.asset(
        **declared(
            "bars",
            "The winning revision of each bar, duplicates and superseded revisions gone.",
            ["raw_bars"],
            {"deltalake", "duckdb"},
        ),
        **stored("bars"),
    )
    def bars(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        return _derived(context, lake.open(), config, "bars", derive_bars)

    @dg.asset(
        **declared(
            "daily_bars",
            "One row an instrument, currency and session, from the traded bars of the regular segment.",
            ["bars"],
            {"deltalake", "duckdb"},
        ),
        **stored("daily_bars"),
        freshness_policy=fresh_enough,
    )
    def daily_bars(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        return _derived(context, lake.open(), config, "daily_bars", derive_daily_bars)

    assets = [raw_bars, bars, daily_bars]
    if config.report is not None:
        report = config.report

        @dg.asset(
            **declared(
                "daily_report",
                "The daily report: one object a session for other systems, in their column names.",
                ["daily_bars"],
                {report.format},
            )
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
    context: dg.AssetExecutionContext, lake: Lake, config: BarFileConfig, table: str, derive: Callable[..., Derived]
) -> dg.MaterializeResult:
    sessions, started = asset_sessions(context), time.monotonic()
    with transient_faults_retried(context):
        result = derive(lake, config, sessions, progress=progress(context.log.debug))
    _report_partitions(context, lake, config.table(table), sessions)
    metadata = stored_metadata(lake, config.table(table), sessions, time.monotonic() - started)
    metadata |= {"rows_changed": result.rows_changed, "sessions_changed": len(result.changed)}
    metadata |= _counts(lake, config, sessions) if table == "bars" else session_pictures(lake, config, sessions)
    return dg.MaterializeResult(metadata=metadata)


def _counts(lake: Lake, config: BarFileConfig, sessions: list[date]) -> dict[str, Any]:
    """The conservation law's counts over the run's sessions."""
    totals = conservation_totals(lake, config.source, sessions)
    return {f"rows_{name}": count for name, count in totals.items()}


def _report_partitions(context: dg.AssetExecutionContext, lake: Lake, table: str, sessions: list[date]) -> None:
    """Tells Dagster what each of the run's partitions holds: what a MaterializeResult says, it says of all of them."""
    for session, facts in partition_metadata(lake, table, sessions).items():
        context.add_asset_metadata(facts, partition_key=session.isoformat())


def _report_shared_tables(context: dg.AssetExecutionContext, lake: Lake, received: int, quarantined: int) -> None:
    """Tells Dagster that the shared tables, which a load writes beside raw_bars, have news."""
    news = {"ingest_ledger": {"rows_received": received}, "quarantine": {"rows_quarantined": quarantined}}
    for name, facts in news.items():
        version = lake.table(name).snapshot().version
        if version is not None:
            context.log_event(dg.AssetMaterialization(["lake", name], metadata={**facts, "table_version": version}))
