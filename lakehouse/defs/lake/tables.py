"""The tables that all sources share, and their housekeeping, as assets."""

import dagster as dg

from lakehouse.api import Lake
from lakehouse.catalog import sources
from lakehouse.components.alerts import alerts_sensor
from lakehouse.components.metadata import definition_metadata, records_table
from lakehouse.components.resources import LakeResource, lake_resources
from lakehouse.components.run_history import prune
from lakehouse.lake.contract import shared_contracts

_GROUP = "lake"


def _shared(table: str, deps: list[list[str]]) -> dg.AssetSpec:
    contract = shared_contracts()[table]
    return dg.AssetSpec(
        [_GROUP, table],
        deps=deps,
        description=contract.description,
        group_name=_GROUP,
        kinds={"deltalake"},
        owners=["team:market-data"],
        metadata=definition_metadata(contract, Lake.present(), table),
    )


@dg.asset(
    key=[_GROUP, "maintenance"],
    group_name=_GROUP,
    kinds={"deltalake"},
    owners=["team:market-data"],
    description="Removes rows that killed loads left behind, compacts the tables' small files, deletes files that no "
    "version within the retention needs, and deletes Dagster's old runs.",
)
def maintenance(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    from lakehouse.ingest.entered import remove_unentered
    from lakehouse.lake.maintenance import maintain

    opened = lake.open()
    removed = remove_unentered(opened)
    done = maintain(opened, opened.config)
    return dg.MaterializeResult(
        metadata={
            "tables": dg.MetadataValue.md(records_table([vars(entry) for entry in done])),
            "rows_removed": sum(removed.values()),
            "runs_pruned": prune(context.instance),
        }
    )


@dg.definitions
def lake_tables() -> dg.Definitions:
    """The shared tables. Every source's load writes the ledger and the quarantine and reports their materializations;
    they have no runs of their own.
    """
    loads = [dataset.table.split("/") for source in sources().values() for dataset in source.datasets]
    job = dg.define_asset_job("lake_maintenance", selection=[maintenance], description="Housekeeping of all tables.")
    return dg.Definitions(
        assets=[*(_shared(table, loads) for table in ("ingest_ledger", "quarantine", "skipped_objects")), maintenance],
        jobs=[job],
        schedules=[
            dg.ScheduleDefinition(
                job=job,
                cron_schedule="0 3 * * *",
                execution_timezone="UTC",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        ],
        sensors=[alerts_sensor],
        resources=lake_resources(),
    )
