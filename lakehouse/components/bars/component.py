"""The component behind a source's `defs.yaml`: a vendor is a YAML file, and this makes its assets, checks, job,
and what runs them by itself.
"""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel

from lakehouse.components.bars.assets import bar_assets
from lakehouse.components.bars.official import official_assets
from lakehouse.components.bars.partitions import session_partitions
from lakehouse.components.bars.reconciliation import reconciliation_asset
from lakehouse.components.bars.run_tags import RELOAD_TAG, tagged_sessions
from lakehouse.components.bars.schedules import update_schedules
from lakehouse.components.bars.sensor import source_sensor
from lakehouse.components.checks import table_checks
from lakehouse.domains.market.bars.checks import checks_of
from lakehouse.domains.market.bars.config import SourceConfig


class MarketSource(dg.Component):
    """Bars, and perhaps an official daily series, of one vendor: files in a folder or bucket, or a REST API.

    The attributes are those of `lakehouse.domains.market.bars.config.SourceConfig`. The component makes raw_bars, bars,
    daily_bars and, where the YAML has them, raw_daily, official_daily, corporate_actions, reconciliation and
    daily_report below the source's name, their checks, the job that updates them through to the published marts,
    and what starts it: a sensor over new and changed objects, or an API's schedules.
    """

    def __init__(self, config: SourceConfig) -> None:
        self.config = config

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return SourceConfig

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> MarketSource:
        assert isinstance(attributes, SourceConfig)
        return cls(attributes)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        config = self.config
        partitions = session_partitions(config, config.calendar_frame())
        everything = dg.AssetSelection.groups(config.source, "warehouse")
        job = dg.define_asset_job(
            f"{config.source}_update",
            selection=everything,
            description=f"News of {config.source} through to the published marts.",
            partitions_def=partitions,
        )
        reload = dg.define_asset_job(
            f"{config.source}_reload",
            selection=everything,
            description=f"Objects of {config.source} that were read by other settings, read again as a new revision.",
            partitions_def=partitions,
            tags={RELOAD_TAG: "true"},
        )
        assets = bar_assets(config, partitions)
        if config.official_daily is not None:
            assets += official_assets(config)
        if config.reconciliation is not None:
            assets.append(reconciliation_asset(config, partitions))
        return dg.Definitions(
            assets=assets,
            asset_checks=[
                table_checks(config, table, checks_of(config), lambda tags: tagged_sessions(tags, config, partitions))
                for table in dict.fromkeys(check.table for check in checks_of(config))
            ],
            jobs=[job, reload],
            sensors=[source_sensor(config, partitions, job.name)] if config.bars.objects else [],
            schedules=update_schedules(config, job.name),
        )
