"""Runs are forgotten after the retention; what the asset pages show of partitions and checks is not."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from lakehouse.components.bars.run_tags import range_tags
from lakehouse.components.run_history import RETENTION, prune

DAYS = dg.DailyPartitionsDefinition("2024-03-01", exclusions=[datetime(2024, 3, 9), datetime(2024, 3, 10)])
FIRST, LAST = (datetime(2024, 3, day).date() for day in (4, 8))


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def prices() -> None: ...


@dg.asset_check(asset=prices)
def sound() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


JOB = dg.define_asset_job("update", [prices])
DEFINITIONS = dg.Definitions([prices], asset_checks=[sound], jobs=[JOB], executor=dg.in_process_executor)


def run(instance: dg.DagsterInstance, first: str, last: str) -> str:
    tags = range_tags(datetime.fromisoformat(first).date(), datetime.fromisoformat(last).date())
    result = DEFINITIONS.resolve_job_def("update").execute_in_process(instance=instance, tags=tags)
    assert result.success
    return result.run_id


def stored(instance: dg.DagsterInstance, query: str, file: str = "runs/index.db") -> list[tuple[object, ...]]:
    path = Path(instance.root_directory) / "history" / file
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_a_check_is_stored_once_a_run_not_once_a_partition(instance: dg.DagsterInstance) -> None:
    run(instance, "2024-03-04", "2024-03-08")
    rows = stored(instance, "SELECT partition, execution_status FROM asset_check_executions")
    assert rows == [(None, "SUCCEEDED")]


def test_old_runs_are_pruned_and_the_newest_of_each_partition_and_check_stays(instance: dg.DagsterInstance) -> None:
    old = [run(instance, "2024-03-04", "2024-03-06"), run(instance, "2024-03-06", "2024-03-08")]
    key, folder = dg.AssetKey("prices"), Path(instance.root_directory)
    materialized = instance.get_materialized_partitions(key)
    assert prune(instance) == 0

    after = datetime.now(UTC) + RETENTION + timedelta(minutes=1)
    assert prune(instance, after) == 2
    assert instance.get_runs() == []
    assert stored(instance, "SELECT * FROM run_tags", "runs.db") == []
    assert instance.get_materialized_partitions(key) == materialized
    assert stored(instance, "SELECT partition, count(*), max(run_id) FROM event_logs GROUP BY 1 ORDER BY 1") == [
        (f"2024-03-0{day}", 1, old[day >= 6]) for day in range(4, 9)
    ]
    assert stored(instance, "SELECT run_id FROM asset_check_executions") == [(old[1],)]
    assert stored(
        instance, "SELECT count(*) FROM asset_event_tags WHERE event_id NOT IN (SELECT id FROM event_logs)"
    ) == [(0,)]
    assert not [path for run_id in old for path in folder.rglob(f"*{run_id}*")]
    # The pages go on: a later run is stored beside what has stayed.
    newest = run(instance, "2024-03-04", "2024-03-04")
    event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.run_id == newest
    assert prune(instance, after - RETENTION) == 0
