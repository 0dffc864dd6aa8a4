"""The component behind the `defs.yaml` of a report of any table or view."""

from typing import Self

import dagster as dg
from pydantic import BaseModel

from lakehouse.catalog import database_place
from lakehouse.components.resources import LakeResource
from lakehouse.components.retries import transient_faults_retried
from lakehouse.derive.table_report import ReportConfig, export
from lakehouse.settings import settings

GROUP = "reports"


class TableReport(dg.Component):
    """A table or view for other systems: a table of PostgreSQL, or a Parquet or CSV object, with their column names.

    The attributes are those of `lakehouse.derive.table_report.ReportConfig`.
    """

    def __init__(self, config: ReportConfig) -> None:
        self.config = config

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return ReportConfig

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        assert isinstance(attributes, ReportConfig)
        return cls(attributes)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        return dg.Definitions(assets=[report_asset(self.config)])


def report_asset(config: ReportConfig) -> dg.AssetsDefinition:
    """The asset `reports/<name>`."""

    @dg.asset(
        key=[GROUP, config.report],
        deps=[config.of.split(".")],
        group_name=GROUP,
        kinds={config.target.format},
        owners=list(config.owners),
        description=config.description or f"{config.of} for other systems, with their column names.",
    )
    def table_report(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        with transient_faults_retried(context):
            done = export(lake.open(), config, database_place(settings()), settings().home / "reports")
        return dg.MaterializeResult(
            metadata={
                "target": done.target,
                "rows_written": done.changed,
                "rows_deleted": done.deleted,
                "dagster/row_count": done.rows,
            }
        )

    return table_report
