"""The assets of a feed: quotes -> quote_windows, and poll_errors, partitioned by day (UTC); and the compaction of their
many small files, hourly for the current day and once more after it has ended.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from lakehouse.api import Lake
from lakehouse.components.asset_specs import declared
from lakehouse.components.bars.figures import gains_picture
from lakehouse.components.metadata import definition_metadata, stored_metadata
from lakehouse.components.resources import LakeResource
from lakehouse.components.retries import transient_faults_retried
from lakehouse.components.sources.extent import note_extent
from lakehouse.domains.market.quotes.derive import derive_days
from lakehouse.domains.market.quotes.feed import ERRORS, QUOTES, WINDOWS, Feed
from lakehouse.domains.market.quotes.service import poll
from lakehouse.lake.maintenance import compact_partitions
from lakehouse.progress import progress


class Rounds(dg.Config):
    """How many polling rounds a run makes."""

    rounds: int = 6


def feed_assets(resolve: Callable[[], Feed], partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The assets of one feed; each is a thin step around the functions of `domains.market.quotes`.

    Args:
        resolve: makes the feed from the settings at run time.
    """
    feed = resolve()
    partitioned: dict[str, Any] = {"partitions_def": partitions, "backfill_policy": dg.BackfillPolicy.single_run()}

    @dg.multi_asset(
        name=f"{feed.name}_quotes",
        specs=[
            dg.AssetSpec(
                **_declared(feed, QUOTES, f"{feed.config.description}: each quote once, append-only.", []),
                partitions_def=partitions,
                freshness_policy=dg.FreshnessPolicy.time_window(
                    fail_window=timedelta(seconds=max(feed.config.freshness_s, 60))
                ),
            ),
            dg.AssetSpec(
                **_declared(feed, ERRORS, "Failed polls, one row per attempt.", []),
                partitions_def=partitions,
            ),
        ],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def quotes(context: dg.AssetExecutionContext, config: Rounds, lake: LakeResource) -> Any:
        """Today's partition polls the feed, as `lakehouse stream` does. Past days can't be polled: for them it only
        reports what is stored.
        """
        days, opened, started = _days(context), lake.open(), time.monotonic()
        facts: dict[str, Any] = {}
        if datetime.now(UTC).date() in days:
            with transient_faults_retried(context):
                made = asyncio.run(poll(opened, resolve(), asyncio.Event(), rounds=config.rounds))
            facts = {name: value for name, value in vars(made).items() if name != "windows"}
            note_extent(opened, feed)

        def stored(table: str, told: dict[str, Any]) -> dg.MaterializeResult:
            _report_days(context, opened, feed, table, days)
            seconds = time.monotonic() - started
            return dg.MaterializeResult(
                asset_key=[feed.name, table],
                metadata=told | stored_metadata(opened, feed.table(table), days, seconds, context.run_id),
            )

        yield stored(ERRORS, {})
        if facts and not facts["stored"] + facts["repeated"]:
            # Fail: a materialization would mark the feed as fresh.
            raise dg.Failure(
                f"No quote came in {facts['rounds']} rounds: {facts['refused']} answers were refused, "
                f"{facts['errors']} tries had none. {feed.name}.{ERRORS} and lake.quarantine say why",
                allow_retries=False,
            )
        yield stored(QUOTES, facts)

    @dg.asset(
        **declared(
            feed,
            WINDOWS,
            "Closed sliding windows over the quotes, one row per window and symbol.",
            [QUOTES],
            {"deltalake", "duckdb"},
        ),
        **partitioned,
        metadata=definition_metadata(feed.contract(WINDOWS), Lake.present(), feed.table(WINDOWS)),
    )
    def quote_windows(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        days, opened, started = _days(context), lake.open(), time.monotonic()
        with transient_faults_retried(context):
            result = derive_days(opened, feed, days, progress=progress(context.log.debug))
        _report_days(context, opened, feed, WINDOWS, days)
        return dg.MaterializeResult(
            metadata={"windows": result.rows, "windows_changed": result.rows_changed}
            | gains_picture(opened, feed, days[-1])
            | stored_metadata(opened, feed.table(WINDOWS), days, time.monotonic() - started, context.run_id)
        )

    @dg.asset(
        **declared(
            feed,
            "compaction",
            "Compacts a day's thousands of small files into a few; readers and the stream are not blocked.",
            [QUOTES, WINDOWS],
            {"deltalake"},
        ),
        **partitioned,
    )
    def compaction(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=_compacted(lake.open(), feed, _days(context)))

    @dg.asset(
        **declared(
            feed,
            "rolling_compaction",
            "Compacts the current day's hundreds of small files into a few, so that reads stay fast during the day.",
            [QUOTES, WINDOWS],
            {"deltalake"},
        ),
    )
    def rolling_compaction(lake: LakeResource) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=_compacted(lake.open(), feed, [datetime.now(UTC).date()]))

    return [quotes, quote_windows, compaction, rolling_compaction]


def _compacted(lake: Lake, feed: Feed, days: Sequence[date]) -> dict[str, int]:
    """Compacts the given days in all of the feed's tables; returns the numbers of files before and after."""
    facts: dict[str, int] = {}
    for table in (QUOTES, WINDOWS, ERRORS):
        done = compact_partitions(lake.table(feed.table(table)), "day", [str(day) for day in days])
        facts |= {f"{table}_files_before": done.files_before, f"{table}_files_after": done.files_after}
    return facts


def _declared(feed: Feed, table: str, description: str, deps: list[str]) -> dict[str, Any]:
    return declared(feed, table, description, deps, {"deltalake", "polars"}) | {
        "metadata": definition_metadata(feed.contract(table), Lake.present(), feed.table(table))
    }


def _days(context: dg.AssetExecutionContext) -> list[date]:
    return [date.fromisoformat(key) for key in context.partition_keys]


def _report_days(context: dg.AssetExecutionContext, lake: Lake, feed: Feed, table: str, days: Sequence[date]) -> None:
    """Reports to Dagster how many rows each of the run's days holds."""
    snapshot = lake.table(feed.table(table)).snapshot()
    with lake.connect() as connection:
        counts = dict(
            connection.execute(f"SELECT day, count(*) FROM ({snapshot.select_dates(days)}) GROUP BY day").fetchall()
        )
    for day in days:
        context.add_asset_metadata(
            {"dagster/partition_row_count": counts.get(day, 0)},
            asset_key=[feed.name, table],
            partition_key=day.isoformat(),
        )
