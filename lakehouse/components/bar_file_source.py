"""The component behind a bar-file source's `defs.yaml`: a vendor is a YAML file, and this makes its assets,
checks, job and sensor.
"""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel

from lakehouse.components.assets import bar_assets
from lakehouse.components.checks import table_checks
from lakehouse.components.partitions import session_partitions
from lakehouse.components.sensor import source_sensor
from lakehouse.pipeline.checks import CHECKS
from lakehouse.sources.config import BarFileConfig


class BarFileSource(dg.Component):
    """Bars that a vendor publishes as files in a folder or bucket.

    The attributes are those of `lakehouse.sources.config.BarFileConfig`. The component makes raw_bars, bars,
    daily_bars and (where the YAML has a report) daily_report below the source's name, their checks, the job
    that updates them through to the published marts, and the sensor that runs it over new and changed objects.
    """

    def __init__(self, config: BarFileConfig) -> None:
        self.config = config

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return BarFileConfig

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> BarFileSource:
        assert isinstance(attributes, BarFileConfig)
        return cls(attributes)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        config = self.config
        partitions = session_partitions(config, config.calendar_frame())
        job = dg.define_asset_job(
            f"{config.source}_update",
            selection=dg.AssetSelection.groups(config.source, "warehouse"),
            description=f"New objects of {config.source} through to the published marts.",
            partitions_def=partitions,
        )
        return dg.Definitions(
            assets=bar_assets(config, partitions),
            asset_checks=[
                table_checks(config, table, partitions) for table in dict.fromkeys(check.table for check in CHECKS)
            ],
            jobs=[job],
            sensors=[source_sensor(config, partitions, job.name)],
        )
