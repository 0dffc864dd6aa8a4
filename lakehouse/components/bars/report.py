"""The asset of a source's daily report."""

from collections.abc import Callable

import dagster as dg

from lakehouse.components.asset_specs import declared
from lakehouse.components.resources import LakeResource
from lakehouse.components.retries import transient_faults_retried
from lakehouse.components.sources.assets import partitioned
from lakehouse.components.sources.run_tags import asset_partitions
from lakehouse.domains.market.bars.report import export_report
from lakehouse.domains.market.bars.source import BarSource


def report_asset(resolve: Callable[[], BarSource], partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """The asset `<source>/daily_report`.

    Args:
        resolve: makes the source from the settings at run time.
    """
    source = resolve()
    report = source.config.report
    assert report is not None

    @dg.asset(
        **declared(
            source,
            "daily_report",
            "The daily report: one object per session for other systems, with their column names.",
            ["daily_bars"],
            {report.format},
        ),
        **partitioned(partitions),
    )
    def daily_report(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        with transient_faults_retried(context):
            result = export_report(lake.open(), resolve(), asset_partitions(context))
        return dg.MaterializeResult(
            metadata={
                "target": result.url,
                "objects_written": len(result.written),
                "objects_unchanged": result.unchanged,
                "table_rows_written": result.table_rows.upserted,
                "table_rows_deleted": result.table_rows.deleted,
                "dagster/row_count": result.rows,
            }
        )

    return daily_report
