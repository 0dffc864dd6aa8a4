"""The component behind the `defs.yaml` of a report of any table or view."""

import dagster as dg

from lakehouse.catalog import database_place, described_source, warn_of
from lakehouse.components.described import DescribedComponent
from lakehouse.components.resources import LakeResource
from lakehouse.components.retries import transient_faults_retried
from lakehouse.components.sources.assets import partitioned
from lakehouse.components.sources.extent import shown_extent
from lakehouse.components.sources.partitions import time_windows
from lakehouse.components.sources.run_tags import asset_partitions
from lakehouse.derive.table_report import ReportConfig, export
from lakehouse.errors import SourceError
from lakehouse.settings import settings

GROUP = "reports"


class TableReport(DescribedComponent):
    """A table or view for other systems, with their column names: a Delta table, a table of PostgreSQL, or a Parquet or
    CSV object.

    The attributes are those of `lakehouse.derive.table_report.ReportConfig`.
    """

    model = ReportConfig
    config: ReportConfig

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        try:
            return dg.Definitions(assets=[report_asset(self.config)])
        except SourceError as error:
            # Of a source whose own file is broken; the others go on.
            warn_of(error)
            return dg.Definitions()


def report_asset(config: ReportConfig) -> dg.AssetsDefinition:
    """The asset `reports/<name>`, with the partitions of its source if it is a report by partition.

    Raises:
        SourceError: its source has no partitions, or can't be read.
    """
    partitions = None
    if config.partition is not None:
        source = described_source(config.source)
        if not source.stepwise:
            raise SourceError(f"report {config.report}: {config.source} has no partitions; remove `partition`")
        partitions = time_windows(source.stepwise[0].partitioning, shown_extent(source))

    @dg.asset(
        key=[GROUP, config.report],
        deps=[config.of.split(".")],
        group_name=GROUP,
        kinds={config.target.format},
        owners=list(config.owners),
        description=config.description or f"{config.of} for other systems, with their column names.",
        **partitioned(partitions),
    )
    def table_report(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        wanted = None if partitions is None else asset_partitions(context)
        with transient_faults_retried(context):
            done = export(lake.open(), config, database_place(settings()), settings().home / "reports", wanted)
        return dg.MaterializeResult(
            metadata={
                "target": done.target,
                "rows_written": done.changed,
                "rows_deleted": done.deleted,
                "dagster/row_count": done.rows,
            }
        )

    return table_report
