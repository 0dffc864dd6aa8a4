"""The assets of a source's second product: raw_daily -> official_daily, corporate_actions. They are not
partitioned, since every answer has the whole history.
"""

import time

import dagster as dg

from lakehouse.components.asset_specs import declared, stored
from lakehouse.components.bars.run_tags import RELOAD_TAG
from lakehouse.components.metadata import stored_metadata
from lakehouse.components.resources import LakeResource
from lakehouse.components.retries import (
    loaded_metadata,
    refused_metadata,
    report_shared_tables,
    transient_faults_retried,
)
from lakehouse.domains.market.bars.config import SourceConfig
from lakehouse.domains.market.corporate_actions.derive import OFFICIAL_TABLES, derive_official
from lakehouse.ingest.dataset import OfficialDaily
from lakehouse.ingest.load import load
from lakehouse.progress import progress

_DESCRIPTIONS = {
    "raw_daily": "The vendor's official daily series, as received: every revision of every row, append-only.",
    "official_daily": "The winning revision of each row of the official daily series.",
    "corporate_actions": "Dividends and splits by their ex-dates, each with the moment it became known.",
}


def official_assets(config: SourceConfig) -> list[dg.AssetsDefinition]:
    """The assets of the official daily series; each is a thin step around `ingest`, `derive` and `domains.market`."""
    product = config.official_daily
    assert product is not None

    @dg.asset(
        **declared(config, "raw_daily", _DESCRIPTIONS["raw_daily"], [], {"deltalake", "polars"}),
        **stored(config, "raw_daily"),
    )
    def raw_daily(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        started, opened = time.monotonic(), lake.open()
        with transient_faults_retried(context):
            result = load(
                opened,
                config,
                product,
                [],
                run_id=context.run_id,
                reread=RELOAD_TAG in context.run.tags,
                progress=progress(context.log.debug),
            )
        report_shared_tables(context, opened, result)
        table = config.table("raw_daily")
        metadata = loaded_metadata(context, result) | refused_metadata(opened, config, OfficialDaily, None)
        metadata |= stored_metadata(opened, table, None, time.monotonic() - started)
        return dg.MaterializeResult(metadata=metadata)

    return [raw_daily, *(_derived(config, table) for table in OFFICIAL_TABLES)]


def _derived(config: SourceConfig, table: str) -> dg.AssetsDefinition:
    @dg.asset(
        **declared(config, table, _DESCRIPTIONS[table], ["raw_daily"], {"deltalake", "duckdb"}),
        **stored(config, table),
    )
    def derived(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        started, opened = time.monotonic(), lake.open()
        with transient_faults_retried(context):
            result = derive_official(opened, config, table)
        metadata = stored_metadata(opened, config.table(table), None, time.monotonic() - started)
        return dg.MaterializeResult(
            metadata=metadata | {"dagster/row_count": result.rows, "rows_written": result.rows_changed}
        )

    return derived
